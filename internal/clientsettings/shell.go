package clientsettings

import (
	"maps"
	"slices"
	"strings"
)

// File is where a target finds the settings of its machine.
const File = "/run/inetboot/settings.env"

// Shell returns variables as lines that a shell, and systemd's EnvironmentFile=,
// read: NAME='value', sorted by name.
func Shell(v map[string]string) []byte {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(v)) {
		b.WriteString(name + "='" + strings.ReplaceAll(v[name], "'", `'\''`) + "'\n")
	}
	return []byte(b.String())
}
