package target

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/inetboot/inetboot/internal/handoff"
)

// cmdline is what of the kernel's command line concerns init.
type cmdline struct {
	init    string // init=, "" if not given
	cache   handoff.Cache
	overlay string // inetboot.overlay=: size of the overlay as tmpfs takes it
	noFill  bool   // inetboot.fill=0: the cache is not filled in the background, as for metered links
	quiet   bool   // messages of the kernel's log are not shown
}

var sizeOption = regexp.MustCompile(`^[1-9][0-9]{0,12}[kKmMgG%]?$`)

// defaultOverlay is half of the machine's memory.
const defaultOverlay = "50%"

func parseCmdline(s string) (cmdline, error) {
	c := cmdline{overlay: defaultOverlay}
	for _, w := range fields(s) {
		key, value, _ := strings.Cut(w, "=")
		switch key {
		case "--":
			return c, nil // what follows is for the image's init
		case "init":
			c.init = value
		case "quiet":
			c.quiet = true
		case "inetboot.fill":
			if value != "0" && value != "1" {
				return c, fmt.Errorf("inetboot.fill=%s: want 0 or 1", value)
			}
			c.noFill = value == "0"
		case "inetboot.overlay":
			if !sizeOption.MatchString(value) {
				return c, fmt.Errorf("inetboot.overlay=%s: want a size such as 2G or 50%%", value)
			}
			c.overlay = value
		case handoff.CacheOption:
			var err error
			if c.cache, err = handoff.ParseCache(value); err != nil {
				return c, err
			}
		}
	}
	return c, nil
}

// fields splits a command line as the kernel does: at white space, but not
// between double quotes, which are dropped.
func fields(s string) []string {
	var out []string
	var w strings.Builder
	quoted, any := false, false
	for _, c := range []byte(s) {
		switch {
		case c == '"':
			quoted, any = !quoted, true
		case !quoted && (c == ' ' || c == '\t' || c == '\n' || c == '\r'):
			if any {
				out = append(out, w.String())
				w.Reset()
				any = false
			}
		default:
			w.WriteByte(c)
			any = true
		}
	}
	if any {
		out = append(out, w.String())
	}
	return out
}
