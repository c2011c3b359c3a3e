package settings

import (
	"slices"
	"strings"
)

// Override returns a kernel command line without the options whose names are in
// drop, and with options at its end. Values with spaces get quotes.
func Override(cmdline string, drop, options []string) string {
	var out []string
	for _, o := range Fields(cmdline) {
		if name, _, _ := strings.Cut(o, "="); !slices.Contains(drop, name) {
			out = append(out, o)
		}
	}
	for _, o := range options {
		if name, value, ok := strings.Cut(o, "="); ok && strings.ContainsAny(value, " \t\n") {
			o = name + `="` + strings.ReplaceAll(value, `"`, "") + `"`
		}
		out = append(out, o)
	}
	return strings.Join(out, " ")
}
