// Package bootscript is the language of preboot's boot scripts: what the option
// iscript= names. It is small, in the manner of iPXE's scripts, and described
// in docs/preboot.md.
//
// Parse checks everything that can be known without running: commands, numbers
// of arguments, labels, names. Run carries a script out on a Machine, which is
// all that it can reach. Values of variables are never parsed again, so that
// no value becomes a command.
package bootscript

import (
	"errors"
	"fmt"
)

// Bounds of scripts and of what they do.
const (
	MaxSize      = 64 << 10 // bytes
	maxWords     = 64       // of a line
	maxValue     = 4096     // bytes of an expanded word
	maxVariables = 256
	maxItems     = 200 // of a menu
	maxInitrds   = 16
	maxSteps     = 100_000 // commands carried out
	maxSleep     = 86_400  // seconds
)

// Prefix begins the names of the catalog's targets that are scripts.
const Prefix = "scripts/"

// ErrSyntax is wrapped when a script is malformed.
var ErrSyntax = errors.New("the script is malformed")

// Error says in which line, counted from 1, a script failed.
type Error struct {
	Line int
	Err  error
}

func (e *Error) Error() string { return fmt.Sprintf("line %d: %v", e.Line, e.Err) }

// Unwrap returns the reason.
func (e *Error) Unwrap() error { return e.Err }

// Facts returns the names of the variables that say what the machine is like.
// Scripts cannot set them.
func Facts() []string { return []string{"arch", "link", "mac", "ip", "memory", "offline"} }
