// Package hclfile reads, guards, parses and decodes HCL files and reports what is wrong with them. Rule files,
// plugin.hcl and sidecar.hcl share it, so the same encodings, strings and sizes are valid in all of them.
//
// Nothing is evaluated: values are literals. A string is what stands between the quotes, byte for byte; a string that
// HCL would change is refused.
package hclfile
