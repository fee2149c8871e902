package main

import (
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/chat-recall/recall/host/hosttest"
)

// station is a UDP socket of a place in a network.
type station struct {
	*netPlace
	*net.UDPConn
}

func newStation(t *testing.T, v *virtualNet) station {
	t.Helper()
	place, err := v.add()
	if err != nil {
		t.Fatal(err)
	}
	s := station{netPlace: place}
	if err := place.run(func() (err error) {
		s.UDPConn, err = net.ListenUDP("udp4", &net.UDPAddr{IP: net.ParseIP(place.host), Port: 7})
		return err
	}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func (s station) send(t *testing.T, to station, text string) {
	t.Helper()
	at := netip.AddrPortFrom(netip.MustParseAddr(to.host), 7)
	if _, err := s.WriteToUDPAddrPort([]byte(text), at); err != nil {
		t.Fatal(err)
	}
}

func (s station) wantNext(t *testing.T, text string) {
	t.Helper()
	if err := s.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 100)
	n, _, err := s.ReadFromUDP(buf)
	if err != nil || string(buf[:n]) != text {
		t.Errorf("%s got %q, want %q: %v", s.host, buf[:n], text, err)
	}
}

func TestVirtualNet(t *testing.T) {
	if os.Geteuid() != 0 {
		hosttest.Missing(t, "root, who may make network namespaces")
	}
	v := newVirtualNet()
	defer v.close()
	a, b, c := newStation(t, v), newStation(t, v), newStation(t, v)
	a.send(t, b, "hello")
	b.wantNext(t, "hello")

	t.Run("a place that is not heard hears others", func(t *testing.T) {
		v.cutOff([]*netPlace{a.netPlace}, []*netPlace{a.netPlace, b.netPlace})
		a.send(t, b, "lost")
		a.send(t, c, "another way")
		c.wantNext(t, "another way") // so the packet before it has come to the network, too
		b.send(t, a, "one way")
		a.wantNext(t, "one way")
		v.heal()
		a.send(t, b, "healed")
		b.wantNext(t, "healed")
	})
	t.Run("each packet is delayed", func(t *testing.T) {
		const delay = 50 * time.Millisecond
		v.setDelay(delay)
		began := time.Now()
		a.send(t, b, "slow")
		b.send(t, a, "slow too")
		b.wantNext(t, "slow")
		a.wantNext(t, "slow too")
		if took := time.Since(began); took < delay {
			t.Errorf("it took %s", took)
		}
	})
}
