// Package boot starts another kernel from this one by kexec.
package boot

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/inetboot/inetboot/catalog"
)

// Marker is the option on a target's command line that names the boot: it is
// followed by "=" and the handoff's boot_id.
const Marker = "inetboot.boot"

// maxCommandLine is COMMAND_LINE_SIZE of x86 and arm64, less the final zero.
const maxCommandLine = 2047

// ErrCommandLine is wrapped when a command line cannot be passed.
var ErrCommandLine = errors.New("command line too long")

// CommandLine puts together what the target's kernel is told: the image's
// options, those of the catalog (of the menu's entry, and of settings), those
// of the medium (so that the person in front of the machine has the last
// word), and the marker, unless the image has no root and so no use for it.
func CommandLine(img *catalog.Image, catalogs, pass []string, bootID string) (string, error) {
	var parts []string
	for _, p := range slices.Concat([]string{img.Manifest().Cmdline}, catalogs, pass) {
		if p = strings.TrimSpace(strings.ReplaceAll(p, "\n", " ")); p != "" {
			parts = append(parts, p)
		}
	}
	if man := img.Manifest(); !man.NoRoot() {
		parts = append(parts, Marker+"="+bootID)
	}
	line := strings.Join(parts, " ")
	if len(line) > maxCommandLine {
		return "", fmt.Errorf("%w: %d bytes, a kernel takes %d: shorten the options of the image, the menu's entry, the settings or the medium", ErrCommandLine, len(line), maxCommandLine)
	}
	return line, nil
}
