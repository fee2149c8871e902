package main

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// machineLoad is what else ran on the machine.
type machineLoad struct {
	Average float64 `json:"average"`        // load average of the last minute
	Before  float64 `json:"before_percent"` // of the processors, used by other processes for two seconds before the run
	During  float64 `json:"during_percent"` // likewise, during the run, with the kernel's threads; 0: not known yet
}

// busyPercent is from where on other processes spoil what is measured.
const busyPercent = 10

// String is a line for a person.
func (m machineLoad) String() string {
	line := fmt.Sprintf("Other processes used %.0f %% of the processors before the run", m.Before)
	if m.During > 0 {
		line += fmt.Sprintf(" and %.0f %% during it", m.During)
	}
	line += fmt.Sprintf("; the load average was %.2f.", m.Average)
	if max(m.Before, m.During) > busyPercent {
		line += fmt.Sprintf(" Warning: above %d %% the figures are not worth much. Run it again on a quiet machine.",
			busyPercent)
	}
	return line
}

// watch measures how busy other processes are, from now until the returned function is called.
func watch() (percent func() float64) {
	start, busy, own := time.Now(), busyTime(), cpuOf(os.Getpid())
	return func() float64 {
		others := busyTime() - busy - (cpuOf(os.Getpid()) - own)
		return max(0, 100*others.Seconds()/time.Since(start).Seconds()/float64(runtime.NumCPU()))
	}
}

// lookAround watches the machine for a while before anything is started.
func lookAround(d time.Duration) machineLoad {
	var m machineLoad
	if text, err := os.ReadFile("/proc/loadavg"); err == nil {
		_, _ = fmt.Sscan(string(text), &m.Average)
	}
	percent := watch()
	time.Sleep(d)
	m.Before = rounded(percent())
	return m
}

func busyTime() time.Duration {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0
	}
	return parseBusy(string(text))
}

// parseBusy reads the time in which the processors were not idle from /proc/stat; see proc_stat(5). Time that the
// hypervisor gave to other machines counts.
func parseBusy(stat string) time.Duration {
	var user, nice, system, idle, wait, irq, softirq, steal int64
	_, err := fmt.Sscanf(stat, "cpu %d %d %d %d %d %d %d %d", &user, &nice, &system, &idle, &wait, &irq, &softirq, &steal)
	if err != nil {
		return 0
	}
	return time.Duration(user+nice+system+irq+softirq+steal) * tick
}

// memory returns the anonymous and the mapped memory of a process that is in RAM, in bytes.
func memory(pid int) (anonymous, mapped int64, err error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, 0, err
	}
	for l := range strings.Lines(string(status)) {
		var kib int64
		if _, err := fmt.Sscanf(l, "RssAnon: %d kB", &kib); err == nil {
			anonymous = kib << 10
		}
		if _, err := fmt.Sscanf(l, "RssFile: %d kB", &kib); err == nil {
			mapped = kib << 10
		}
	}
	return anonymous, mapped, nil
}

// machine names what is measured on.
func machine(dir string) string {
	model := runtime.GOARCH
	if cpu, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for l := range strings.Lines(string(cpu)) {
			if name, value, ok := strings.Cut(l, ":"); ok && strings.TrimSpace(name) == "model name" {
				model = strings.TrimSpace(value)
				break
			}
		}
	}
	kernel, _ := exec.Command("uname", "-sr").Output()
	disk := "?"
	var fs syscall.Statfs_t
	if syscall.Statfs(dir, &fs) == nil {
		disk = fmt.Sprintf("file system %#x", fs.Type)
		if fs.Type == 0xef53 {
			disk = "ext4"
		}
	}
	return fmt.Sprintf("%d cores of %s, %s, %s, %s",
		runtime.NumCPU(), model, strings.TrimSpace(string(kernel)), disk, runtime.Version())
}
