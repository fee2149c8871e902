// Package prosody has mod_recall, the module of the XMPP server Prosody that lets users take back messages. It speaks
// with recall-sidecar. README.md says how to install it; demo starts all of it on this machine.
package prosody

import (
	"embed"
	"strings"
)

// Module has the folder mod_recall, as it is copied to a folder of plugin_paths.
//
//go:embed mod_recall
var Module embed.FS

//go:embed sidecar.hcl
var sidecarConfig string

// SidecarConfig is the sidecar.hcl of the README for another address, with its files beside it.
func SidecarConfig(address string) []byte {
	return []byte(strings.NewReplacer("127.0.0.1:8181", address, "/etc/recall/", "", "/run/recall/", "",
		"/var/cache/recall", "run").Replace(sidecarConfig))
}
