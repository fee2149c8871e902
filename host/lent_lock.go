package host

import (
	"net"
	"os"
	"sync"
	"syscall"
)

// A lentLock is the host's end of wire.HostPipeEnv, and what the plugin sends through it: the folder whose lock keeps
// others from its index. The kernel frees that lock only when it has taken back all of a killed process's memory, some
// 10 ms for 100 MB, and the host does it as soon as nothing of the process runs any more.
type lentLock struct {
	conn *net.UnixConn
	done chan struct{} // closed when nothing is received any more

	mu     sync.Mutex
	folder *os.File // nil: none was lent, or it is given back
}

// newLentLock makes both ends. Closing ours tells the plugin that the host is gone.
func newLentLock() (l *lentLock, theirs *os.File, err error) {
	conn, theirs, err := socketPair("host pipe")
	if err != nil {
		return nil, nil, err
	}
	l = &lentLock{conn: conn, done: make(chan struct{})}
	go l.receive()
	return l, theirs, nil
}

// receive ends with the plugin or with close. Then the folder is given back: to keep it open would keep it locked.
func (l *lentLock) receive() {
	defer close(l.done)
	defer l.take(nil)
	data, control := make([]byte, 1), make([]byte, syscall.CmsgLen(4)) // one descriptor: there is no room for more
	for {
		_, n, flags, _, err := l.conn.ReadMsgUnix(data, control)
		if err != nil {
			return
		}
		messages, err := syscall.ParseSocketControlMessage(control[:n])
		if err != nil || len(messages) != 1 {
			continue
		}
		fds, err := syscall.ParseUnixRights(&messages[0])
		switch {
		case err != nil || len(fds) != 1:
		case flags&syscall.MSG_CTRUNC != 0: // there were more, and none of them is a folder that was lent
			_ = syscall.Close(fds[0])
		default:
			l.take(os.NewFile(uintptr(fds[0]), "index"))
		}
	}
}

// take puts a folder, or none, in the place of the one before.
func (l *lentLock) take(folder *os.File) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.folder != nil {
		l.folder.Close()
	}
	l.folder = folder
}

// unlock frees the lock and tells whether one was lent. Nothing of the plugin may run any more.
func (l *lentLock) unlock() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.folder != nil && syscall.Flock(int(l.folder.Fd()), syscall.LOCK_UN) == nil
}

func (l *lentLock) close() {
	l.conn.Close()
	<-l.done
}
