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

// MaxCommandLine is COMMAND_LINE_SIZE of x86 and arm64, less the final zero.
const MaxCommandLine = 2047

// ErrCommandLine is wrapped when a command line cannot be passed.
var ErrCommandLine = errors.New("command line too long")

// Options puts together what the target's kernel is told by others than
// preboot: the image's options, those of the catalog (of the menu's entry, and
// of settings), and those of the medium, so that the person in front of the
// machine has the last word.
func Options(img *catalog.Image, catalogs, pass []string) string {
	var parts []string
	for _, p := range slices.Concat([]string{img.Manifest().Cmdline}, catalogs, pass) {
		if p = strings.TrimSpace(strings.ReplaceAll(p, "\n", " ")); p != "" {
			parts = append(parts, p)
		}
	}
	return strings.Join(parts, " ")
}

// CommandLine adds the marker to the options, unless the image has no root and
// so no use for it.
func CommandLine(img *catalog.Image, options, bootID string) (string, error) {
	line := options
	if man := img.Manifest(); !man.NoRoot() {
		line = strings.TrimLeft(line+" "+Marker+"="+bootID, " ")
	}
	if len(line) > MaxCommandLine {
		return "", fmt.Errorf("%w: %d bytes, a kernel takes %d: shorten the options of the image, the menu's entry, the settings or the medium", ErrCommandLine, len(line), MaxCommandLine)
	}
	return line, nil
}
