package webhook

import (
	"fmt"
	"net/netip"
	"slices"
)

// metadata are addresses outside of the link-local ranges from which clouds hand out credentials.
var metadata = []netip.Addr{
	netip.MustParseAddr("fd00:ec2::254"),   // Amazon, instance metadata
	netip.MustParseAddr("fd00:ec2::23"),    // Amazon, credentials of EKS pods
	netip.MustParseAddr("fd20:ce::254"),    // Google
	netip.MustParseAddr("100.100.100.200"), // Alibaba
	netip.MustParseAddr("168.63.129.16"),   // Azure, WireServer
}

// nat64 is the prefix under which a gateway reaches IPv4 addresses (RFC 6052).
var nat64 = netip.MustParsePrefix("64:ff9b::/96")

// checkAddress says whether a request with that scheme may go to an address. The dialer asks it after name resolution
// and before it connects, so no name leads around it.
func checkAddress(scheme, address string) error {
	ap, err := netip.ParseAddrPort(address)
	if err != nil {
		return err
	}
	ip := ap.Addr().Unmap().WithZone("")
	local := ip.IsLoopback() // behind a gateway it is not
	if nat64.Contains(ip) {
		b := ip.As16()
		ip = netip.AddrFrom4([4]byte(b[12:]))
	}
	switch {
	case ip.IsLinkLocalUnicast():
		return fmt.Errorf("%s is refused: webhooks do not go to link-local addresses", ip)
	case ip.IsMulticast():
		return fmt.Errorf("%s is refused: webhooks do not go to multicast addresses", ip)
	case ip.IsUnspecified():
		return fmt.Errorf("%s is refused: webhooks do not go to the unspecified address", ip)
	case slices.Contains(metadata, ip):
		return fmt.Errorf("%s is refused: webhooks do not go to the metadata services of clouds", ip)
	case scheme != "https" && !local:
		return fmt.Errorf("%s is refused: plain http goes only to this machine; use https", ip)
	}
	return nil
}
