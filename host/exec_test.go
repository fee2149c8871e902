package host

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
)

func TestLaunch_ExecutesWhatWasVerified(t *testing.T) {
	for name, write := range map[string]func(path string, text []byte) error{
		"exchanged by rename": func(path string, text []byte) error {
			return errors.Join(os.WriteFile(path+".new", text, 0o500), os.Rename(path+".new", path))
		},
		"written in place": func(path string, text []byte) error {
			f, err := os.OpenFile(path, os.O_WRONLY, 0)
			if errors.Is(err, syscall.ETXTBSY) {
				return nil // it is being executed, and Linux lets nobody write to it meanwhile
			}
			if err != nil {
				return err
			}
			_, err = f.WriteAt(text, 0)
			return errors.Join(err, f.Close())
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir, err := os.MkdirTemp("", "recall") // short enough for a socket
			if err != nil {
				t.Fatal(err)
			}
			defer os.RemoveAll(dir)
			pwned := filepath.Join(dir, "pwned")
			bad := "#!/bin/sh\necho 1 > " + pwned + "\n"
			good := "#!/bin/sh\nexit 3" + strings.Repeat("\n", len(bad)-len("#!/bin/sh\nexit 3"))
			source := filepath.Join(dir, "source")
			if err := os.WriteFile(source, []byte(good), 0o700); err != nil {
				t.Fatal(err)
			}
			staged, err := stage(dir, Binary{Path: source})
			if err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(staged.path, 0o700); err != nil {
				t.Fatal(err)
			}
			stop := make(chan struct{})
			var attacker sync.WaitGroup
			attacker.Go(func() {
				for i := 0; ; i++ {
					select {
					case <-stop:
						return
					default:
					}
					text := good
					if i%2 == 0 {
						text = bad
					}
					if err := write(staged.path, []byte(text)); err != nil {
						t.Error(err)
						return
					}
					time.Sleep(5 * time.Millisecond << (i % 9)) // up to a second, for a machine that is busy
				}
			})
			ran := 0
			enough := func(began time.Time) bool {
				return ran == 30 || ran > 0 && time.Since(began) > 10*time.Second || time.Since(began) > 2*time.Minute
			}
			for began := time.Now(); !enough(began); {
				_, err := launch(t.Context(), staged, dir, time.Minute, hclog.NewNullLogger())
				if strings.Contains(err.Error(), "exit status 3") {
					ran++
				}
			}
			close(stop)
			attacker.Wait()
			if _, err := os.Stat(pwned); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("a file was executed that was not verified: %v", err)
			}
			t.Logf("executed %d times", ran)
			if ran == 0 {
				t.Error("the verified file was never executed")
			}
		})
	}
}

func TestStage_FileThatChanges(t *testing.T) {
	source := filepath.Join(t.TempDir(), "source")
	if err := os.WriteFile(source, make([]byte, 32<<20), 0o700); err != nil {
		t.Fatal(err)
	}
	stop, changing := make(chan struct{}), make(chan error, 1)
	go func() {
		f, err := os.OpenFile(source, os.O_WRONLY|os.O_APPEND, 0)
		for err == nil {
			select {
			case <-stop:
				changing <- f.Close()
				return
			default:
			}
			_, err = f.Write([]byte("more"))
		}
		changing <- err
	}()
	_, err := stage(t.TempDir(), Binary{Path: source})
	if err == nil || !strings.Contains(err.Error(), "was changed while it was copied") {
		t.Errorf("got %v", err)
	}
	close(stop)
	if err := <-changing; err != nil {
		t.Error(err)
	}
}

func TestMakeRunDir_WhateverTheUmask(t *testing.T) {
	dir := t.TempDir()
	old := syscall.Umask(0o777)
	made, err := makeRunDir(filepath.Join(dir, "a", "b"), "")
	syscall.Umask(old)
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{made, filepath.Dir(made)} {
		if info, err := os.Stat(path); err != nil || info.Mode() != fs.ModeDir|0o700 {
			t.Errorf("%s: %v, %v", path, info.Mode(), err)
		}
	}
}
