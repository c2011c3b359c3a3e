package kernel

import (
	"bufio"
	"bytes"
	"fmt"
	"slices"
	"strings"
)

// parseFragment reads the lines `CONFIG_X=value` of a configuration; comments
// and empty lines are skipped, `# CONFIG_X is not set` counts as n.
func parseFragment(data []byte) (map[string]string, error) {
	opts := make(map[string]string)
	sc := bufio.NewScanner(bytes.NewReader(data))
	for n := 1; sc.Scan(); n++ {
		line := strings.TrimSpace(sc.Text())
		if name, ok := strings.CutPrefix(line, "# CONFIG_"); ok {
			if name, ok := strings.CutSuffix(name, " is not set"); ok {
				opts["CONFIG_"+name] = "n"
			}
			continue
		}
		if line == "" || line[0] == '#' {
			continue
		}
		name, value, ok := strings.Cut(line, "=")
		if !ok || !strings.HasPrefix(name, "CONFIG_") || value == "" {
			return nil, fmt.Errorf("kernel configuration, line %d: %q is not CONFIG_X=value", n, line)
		}
		if old, ok := opts[name]; ok && old != value {
			return nil, fmt.Errorf("kernel configuration, line %d: %s is both %s and %s", n, name, old, value)
		}
		opts[name] = value
	}
	return opts, sc.Err()
}

// checkConfig compares what was asked for with the configuration that came
// out of Kconfig, which silently drops options whose dependencies are not met
// and turns on what others select.
func checkConfig(want, got map[string]string) error {
	var wrong []string
	for name, w := range want {
		g, ok := got[name]
		if !ok {
			g = "n"
		}
		if g != w {
			wrong = append(wrong, fmt.Sprintf("%s is %s, want %s", name, g, w))
		}
	}
	if wrong != nil {
		slices.Sort(wrong)
		return fmt.Errorf("the kernel's configuration came out differently (dependencies changed?): %s", strings.Join(wrong, "; "))
	}
	return nil
}
