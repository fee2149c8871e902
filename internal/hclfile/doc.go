// Package hclfile reads, guards and parses HCL files and reports what is wrong with them. Rule files and plugin.hcl go
// through it, so that what is a file, a text or a mistake is the same for all of them.
//
// Nothing is evaluated: these files have literals only. A text is what stands between the quotes, byte for byte; one
// that HCL would change is refused.
package hclfile
