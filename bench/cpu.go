package main

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// ownCPU is the processor time that this process has used.
func ownCPU() time.Duration { return clock(unix.CLOCK_PROCESS_CPUTIME_ID) }

// cpuOf is the processor time that a process has used, and all that descend from it, the ended ones included.
func cpuOf(pid int) time.Duration {
	all := processes()
	var sum func(pid int) time.Duration
	sum = func(pid int) time.Duration {
		d := cpuAlone(pid) + all[pid].ended
		for child, p := range all {
			if p.parent == pid {
				d += sum(child)
			}
		}
		return d
	}
	return sum(pid)
}

// cpuAlone is the processor time that a process has used, without others that descend from it.
func cpuAlone(pid int) time.Duration { return clock(^int32(pid)<<3 | 2) } // see <linux/posix-timers.h>

func clock(id int32) time.Duration {
	var t unix.Timespec
	if unix.ClockGettime(id, &t) != nil {
		return 0 // it has ended
	}
	return time.Duration(t.Nano())
}

type process struct {
	parent int
	ended  time.Duration // processor time of its children that ended
}

// tick is the unit of the times in /proc.
const tick = 10 * time.Millisecond

// processes are those of the machine, by number.
func processes() map[int]process {
	all := map[int]process{}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return all
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			continue // it has ended
		}
		if p, ok := parseProcess(string(stat)); ok {
			all[pid] = p
		}
	}
	return all
}

// parseProcess reads a line of /proc/PID/stat; see proc_pid_stat(5). The name of the program may hold anything.
func parseProcess(stat string) (process, bool) {
	f := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:]) // from field 3 on
	if len(f) < 15 {
		return process{}, false
	}
	number := func(field int) int {
		n, _ := strconv.Atoi(f[field-3])
		return n
	}
	return process{parent: number(4), ended: time.Duration(number(16)+number(17)) * tick}, true
}

// waitForQuiet returns once the children of this process rest, so that what one load leaves behind (a compaction, a
// vacuum) is not counted for the next. It waits half a second at most.
func waitForQuiet(ctx context.Context) {
	const most, look, rest = 500 * time.Millisecond, 20 * time.Millisecond, 2 * time.Millisecond
	children := func() time.Duration { return cpuOf(os.Getpid()) - ownCPU() }
	before := children()
	for start := time.Now(); time.Since(start) < most && ctx.Err() == nil; {
		time.Sleep(look)
		now := children()
		if now-before < rest {
			return
		}
		before = now
	}
}
