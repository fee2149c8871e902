package main

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// A virtualNet connects network namespaces of this machine. Each has one TUN device, whose packets go through this
// process: it delays and drops them. Nothing of it outlives the process. It needs root and /dev/net/tun.
type virtualNet struct {
	mu     sync.Mutex // guards the following
	places []*netPlace
	delay  time.Duration         // of each packet
	cut    map[[2]*netPlace]bool // no packet gets from the first to the second
}

// A netPlace is a network namespace of a virtual network. A thread that is in it does what is done there, and lives as
// long: a process that it has started may end with it.
type netPlace struct {
	net    *virtualNet
	host   string // its address
	device *os.File
	do     chan func()
	queue  chan netPacket // to it
}

type netPacket struct {
	data []byte
	due  time.Time
}

const (
	netPrefix = "10.207.92." // of the addresses
	netMTU    = 9000         // large, since each packet wakes this process
	netQueue  = 4096         // packets on their way to a place; more are dropped
)

func newVirtualNet() *virtualNet { return &virtualNet{cut: map[[2]*netPlace]bool{}} }

// add adds a place.
func (v *virtualNet) add() (*netPlace, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	p := &netPlace{
		net: v, host: fmt.Sprint(netPrefix, len(v.places)+1), do: make(chan func()), queue: make(chan netPacket, netQueue),
	}
	made := make(chan error)
	go func() {
		runtime.LockOSThread() // for good: no other goroutine may run where this one has moved to
		err := p.enter()
		made <- err
		for do := range p.do {
			do()
		}
	}()
	if err := <-made; err != nil {
		close(p.do)
		return nil, fmt.Errorf("make a network namespace with a TUN device, which needs root and /dev/net/tun: %w", err)
	}
	v.places = append(v.places, p)
	go p.send()
	go p.receive()
	return p, nil
}

// run does something in the namespace.
func (p *netPlace) run(do func() error) error {
	done := make(chan error)
	p.do <- func() { done <- do() }
	return <-done
}

// enter moves this thread into a new namespace, and makes its devices.
func (p *netPlace) enter() error {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return err
	}
	tun, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	control, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return errors.Join(err, unix.Close(tun))
	}
	err = errors.Join(p.setUp(tun, control), unix.Close(control))
	if err != nil {
		return errors.Join(err, unix.Close(tun))
	}
	p.device = os.NewFile(uintptr(tun), "tun")
	return nil
}

func (p *netPlace) setUp(tun, control int) error {
	host := netip.MustParseAddr(p.host).As4()
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	dev, err := unix.NewIfreq("tun0")
	if err != nil {
		return err
	}
	for _, step := range []struct {
		fd      int
		request uint
		of      *unix.Ifreq
		set     func(*unix.Ifreq) error
	}{
		{control, unix.SIOCSIFFLAGS, lo, flags(unix.IFF_UP)},
		{tun, unix.TUNSETIFF, dev, flags(unix.IFF_TUN | unix.IFF_NO_PI)},
		{control, unix.SIOCSIFADDR, dev, address(host)},
		{control, unix.SIOCSIFNETMASK, dev, address([4]byte{255, 255, 255, 0})},
		{control, unix.SIOCSIFMTU, dev, func(r *unix.Ifreq) error { r.SetUint32(netMTU); return nil }},
		{control, unix.SIOCSIFFLAGS, dev, flags(unix.IFF_UP)},
	} {
		if err := step.set(step.of); err != nil {
			return err
		}
		if err := unix.IoctlIfreq(step.fd, step.request, step.of); err != nil {
			return err
		}
	}
	return nil
}

func flags(of uint16) func(*unix.Ifreq) error {
	return func(r *unix.Ifreq) error {
		r.SetUint16(of)
		return nil
	}
}

func address(ip [4]byte) func(*unix.Ifreq) error {
	return func(r *unix.Ifreq) error { return r.SetInet4Addr(ip[:]) }
}

// send takes the packets that come from the place.
func (p *netPlace) send() {
	buf := make([]byte, 1<<16)
	for {
		n, err := p.device.Read(buf)
		if err != nil {
			return
		}
		if n >= 20 && buf[0]>>4 == 4 { // a packet of IPv4
			p.net.forward(p, slices.Clone(buf[:n]))
		}
	}
}

// forward puts a packet on its way.
func (v *virtualNet) forward(from *netPlace, data []byte) {
	v.mu.Lock()
	defer v.mu.Unlock()
	number := int(data[19]) // the last byte of the destination
	if number < 1 || number > len(v.places) {
		return
	}
	to := v.places[number-1]
	if v.cut[[2]*netPlace{from, to}] {
		return
	}
	select {
	case to.queue <- netPacket{data, time.Now().Add(v.delay)}:
	default:
	}
}

// receive gives the place its packets, in the order in which they were sent.
func (p *netPlace) receive() {
	for packet := range p.queue {
		time.Sleep(time.Until(packet.due))
		if _, err := p.device.Write(packet.data); errors.Is(err, os.ErrClosed) {
			return
		}
	}
}

// setDelay delays each packet from now on.
func (v *virtualNet) setDelay(d time.Duration) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.delay = d
}

// cutOff has no packet get from one of some places to one of others, until heal is called.
func (v *virtualNet) cutOff(from, to []*netPlace) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, a := range from {
		for _, b := range to {
			v.cut[[2]*netPlace{a, b}] = a != b
		}
	}
}

func (v *virtualNet) heal() {
	v.mu.Lock()
	defer v.mu.Unlock()
	clear(v.cut)
}

// close ends the network, once all processes in it have ended.
func (v *virtualNet) close() {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, p := range v.places {
		_ = p.device.Close()
		close(p.do)
		close(p.queue)
	}
	v.places = nil
}
