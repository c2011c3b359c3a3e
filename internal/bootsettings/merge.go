package bootsettings

import (
	"maps"
	"slices"
	"strings"
)

// Merge returns what holds when several documents apply, the more particular
// ones later. Of what there can be only one of, the last one counts: host
// name, time zone, locale, keyboard, script, a variable, a file at one path.
// Keys are added up, and so are options of the command line, which the kernel
// and its readers take from the left to the right.
func Merge(list ...*Settings) *Settings {
	out := &Settings{Format: Format}
	for _, s := range list {
		if s == nil {
			continue
		}
		for _, w := range []struct{ to, from *string }{{&out.Hostname, &s.Hostname}, {&out.Timezone, &s.Timezone}, {&out.Locale, &s.Locale}} {
			if *w.from != "" {
				*w.to = *w.from
			}
		}
		if s.Keyboard != nil {
			out.Keyboard = s.Keyboard
		}
		if s.Script != nil {
			out.Script = s.Script
		}
		out.Cmdline = strings.TrimSpace(out.Cmdline + " " + s.Cmdline)
		if len(s.Environment) > 0 {
			if out.Environment == nil {
				out.Environment = make(map[string]string)
			}
			maps.Copy(out.Environment, s.Environment)
		}
		for user, keys := range s.SSHKeys {
			if out.SSHKeys == nil {
				out.SSHKeys = make(map[string][]string)
			}
			for _, k := range keys {
				if !slices.Contains(out.SSHKeys[user], k) {
					out.SSHKeys[user] = append(slices.Clone(out.SSHKeys[user]), k)
				}
			}
		}
		for _, f := range s.Files {
			if i := slices.IndexFunc(out.Files, func(have File) bool { return have.Path == f.Path }); i >= 0 {
				out.Files[i] = f
			} else {
				out.Files = append(out.Files, f)
			}
		}
	}
	return out
}
