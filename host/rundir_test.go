package host_test

import (
	"debug/elf"
	"encoding/binary"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/chat-recall/recall/host"
	"github.com/chat-recall/recall/host/hosttest"
)

// otherUser is a user id that no server runs as.
const otherUser = 65534

// folderOf makes a folder with this mode below dir. owner is its user, if not 0.
func folderOf(t *testing.T, dir, name string, mode fs.FileMode, owner int) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	if owner != 0 {
		if err := os.Chown(path, owner, owner); err != nil {
			hosttest.Missing(t, "the right to give a folder away: "+err.Error())
		}
	}
	if err := os.Chmod(path, mode); err != nil { // whatever the umask
		t.Fatal(err)
	}
	return path
}

func TestOpen_RunDirOfOthers(t *testing.T) {
	for name, tc := range map[string]struct {
		runDir func(t *testing.T, dir string) string
		words  []string
	}{
		"belongs to another user": {func(t *testing.T, dir string) string {
			return folderOf(t, dir, "run", 0o700,
				otherUser)
		},
			[]string{"/run belongs to user 65534", "remove it"}},
		"everybody may write it": {func(t *testing.T, dir string) string { return folderOf(t, dir, "run", 0o777, 0) },
			[]string{"/run can be written by others (mode 0777)", "chmod 0700"}},
		"a group may write it": {func(t *testing.T, dir string) string { return folderOf(t, dir, "run", 0o770, 0) },
			[]string{"/run can be written by others (mode 0770)", "chmod 0700"}},
		"a sticky one": {func(t *testing.T, dir string) string { return folderOf(t, dir, "run", 0o777|fs.ModeSticky, 0) },
			[]string{"/run can be written by others (mode 0777)"}},
		"everybody may write the folder above": {func(t *testing.T, dir string) string {
			return folderOf(t, folderOf(t, dir, "above", 0o777, 0), "run", 0o700, 0)
		}, []string{"/above above it can be written by others", "chmod go-w"}},
		"a group may write a folder further above": {func(t *testing.T, dir string) string {
			return filepath.Join(folderOf(t, dir, "above", 0o770, 0), "a", "run")
		}, []string{"/above above it can be written by others", "chmod go-w"}},
		"the folder above belongs to another user": {func(t *testing.T, dir string) string {
			return filepath.Join(folderOf(t, dir, "above", 0o755|fs.ModeSticky, otherUser), "run")
		}, []string{"/above above it belongs to user 65534", "choose a place"}},
		"a link into such a folder": {func(t *testing.T, dir string) string {
			link := filepath.Join(dir, "link")
			if err := os.Symlink(folderOf(t, folderOf(t, dir, "above", 0o777, 0), "run", 0o700, 0), link); err != nil {
				t.Fatal(err)
			}
			return link
		}, []string{"/above above it can be written by others"}},
		"a file": {func(t *testing.T, dir string) string {
			if err := os.WriteFile(filepath.Join(dir, "run"), nil, 0o600); err != nil {
				t.Fatal(err)
			}
			return filepath.Join(dir, "run")
		}, []string{"/run is not a folder"}},
	} {
		t.Run(name, func(t *testing.T) {
			runDir := tc.runDir(t, hosttest.RunDir(t))
			file := hosttest.WriteConfig(t, hosttest.BuildPlugin(t), t.TempDir())
			h, err := host.Open(within(t), host.Config{File: file, RunDir: runDir})
			if err == nil {
				h.Close()
				t.Fatal("opened")
			}
			for _, words := range append(tc.words, "host.Config.RunDir") {
				if !strings.Contains(err.Error(), words) {
					t.Errorf("no %q in: %v", words, err)
				}
			}
		})
	}
}

func TestOpen_RunDirIsPrivate(t *testing.T) {
	above := folderOf(t, hosttest.RunDir(t), "shared", 0o777|fs.ModeSticky, 0) // as /tmp
	runDir := filepath.Join(above, "a", "run")
	h := hosttest.Open(t, host.Config{RunDir: runDir})
	modes := map[string]fs.FileMode{filepath.Dir(runDir): 0o700, runDir: 0o700}
	copies, _ := filepath.Glob(filepath.Join(runDir, "plugin-"+h.State().SHA256))
	sockets, _ := filepath.Glob(filepath.Join(runDir, "plugin-dir*"))
	if len(copies) != 1 || len(sockets) != 1 {
		t.Fatalf("copies %v, folders of sockets %v", copies, sockets)
	}
	modes[copies[0]], modes[sockets[0]] = 0o500, 0o700
	for path, want := range modes {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s has mode %v, want %04o; %v", path, info.Mode(), want, err)
		}
	}
	t.Run("and stays so while it is used", func(t *testing.T) {
		if err := os.Chmod(runDir, 0o777); err != nil {
			t.Fatal(err)
		}
		if _, err := h.Upgrade(within(t), host.Binary{Path: hosttest.BuildPlugin(t)}); err == nil ||
			!strings.Contains(err.Error(), "can be written by others") {
			t.Errorf("an upgrade: %v", err)
		}
		if err := os.Chmod(runDir, 0o700); err != nil {
			t.Fatal(err)
		}
		if _, err := h.Upgrade(within(t), host.Binary{Path: hosttest.BuildPlugin(t)}); err != nil {
			t.Errorf("an upgrade, once it is mended: %v", err)
		}
	})
}

// dynamicBinary is a copy of an ELF program that names a dynamic loader which is not there.
func dynamicBinary(t *testing.T) string {
	t.Helper()
	const sample = "/bin/sh"
	data, err := os.ReadFile(sample)
	if err != nil {
		hosttest.Missing(t, err.Error())
	}
	file, err := elf.Open(sample)
	if err != nil {
		hosttest.Missing(t, "an ELF program at "+sample+": "+err.Error())
	}
	defer file.Close()
	for _, p := range file.Progs {
		if p.Type == elf.PT_INTERP {
			copy(data[p.Off:], strings.Repeat("/", int(p.Filesz)-len("/none/ld.so")-1)+"/none/ld.so")
			path := filepath.Join(t.TempDir(), "dynamic")
			if err := os.WriteFile(path, data, 0o700); err != nil {
				t.Fatal(err)
			}
			return path
		}
	}
	hosttest.Missing(t, "a program with a dynamic loader at "+sample)
	return ""
}

// foreignBinary is this test binary, marked as one for another processor.
func foreignBinary(t *testing.T) string {
	t.Helper()
	data, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	binary.NativeEndian.PutUint16(data[18:], uint16(elf.EM_S390)) // e_machine (elf(5))
	path := filepath.Join(t.TempDir(), "foreign")
	if err := os.WriteFile(path, data, 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestOpen_BinaryThatCannotBeExecuted(t *testing.T) {
	for name, tc := range map[string]struct {
		binary string
		words  []string
	}{
		"no dynamic loader": {dynamicBinary(t), []string{"the dynamic loader /", "/none/ld.so", "not on this machine",
			"CGO_ENABLED=0"}},
		"no interpreter": {scriptWith(t, "#!/none/interpreter -x\n"),
			[]string{"the interpreter /none/interpreter -x", "not on this machine"}},
		"another machine": {foreignBinary(t), []string{"exec format error", "no program for this machine (linux/" +
			runtime.GOARCH, "EM_S390"}},
	} {
		t.Run(name, func(t *testing.T) {
			file := hosttest.WriteConfig(t, tc.binary, t.TempDir())
			_, err := host.Open(within(t), host.Config{File: file, RunDir: hosttest.RunDir(t)})
			if err == nil {
				t.Fatal("opened")
			}
			for _, words := range append(tc.words, tc.binary) {
				if !strings.Contains(err.Error(), words) {
					t.Errorf("no %q in: %v", words, err)
				}
			}
		})
	}
}

// scriptWith writes an executable file.
func scriptWith(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "script")
	if err := os.WriteFile(path, []byte(text), 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestOpen_RunDirMountedNoexec(t *testing.T) {
	dir := hosttest.RunDir(t)
	if err := syscall.Mount("tmpfs", dir, "tmpfs", syscall.MS_NOEXEC, "size=200m,mode=0700"); err != nil {
		hosttest.Missing(t, "the right to mount a tmpfs: "+err.Error())
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	file := hosttest.WriteConfig(t, hosttest.BuildPlugin(t), t.TempDir())
	_, err := host.Open(within(t), host.Config{File: file, RunDir: dir})
	if err == nil || !strings.Contains(err.Error(), "noexec") || !strings.Contains(err.Error(), "set host.Config.RunDir") {
		t.Errorf("got %v", err)
	}
}
