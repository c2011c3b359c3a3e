package target

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/inetboot/inetboot/blockfs/apply"
	"github.com/inetboot/inetboot/internal/bootsettings"
	"github.com/inetboot/inetboot/internal/clientsettings"
	"github.com/inetboot/inetboot/internal/handoff"
)

// readSettings reads the settings that travelled with the handoff and returns
// what holds when all of them apply.
func readSettings(h *handoff.Handoff, read func(path string) ([]byte, error)) (*bootsettings.Settings, error) {
	var list []*bootsettings.Settings
	for _, f := range h.Settings {
		data, err := read(handoff.StorePath(f.Path))
		if err != nil {
			return nil, err
		}
		if err := f.SHA256.Check(f.Path, data); err != nil {
			return nil, err
		}
		s, err := bootsettings.Parse(data)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f.Path, err)
		}
		list = append(list, s)
	}
	return bootsettings.Merge(list...), nil
}

// writeVariables writes the settings of the machine where programs read them.
// That there are none is no error.
func writeVariables(file string, v map[string]string) error {
	if len(v) == 0 {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	return os.WriteFile(file, clientsettings.Shell(v), 0o644)
}

// facts returns what patterns in settings can be about.
func (b *booter) facts() bootsettings.Facts {
	f := bootsettings.Facts{
		MAC: b.h.Network.MAC, Hostname: b.h.Network.Hostname,
		Image: b.h.Image.Name, Version: b.h.Image.Version, Entry: b.h.Entry,
		UUID: smbios("product_uuid"), Serial: smbios("product_serial"),
	}
	if len(b.h.Network.Addresses) > 0 {
		f.IP = b.h.Network.Addresses[0].Addr().String()
	}
	return f
}

// smbios returns one of the values that the firmware tells, "" if there is none.
func smbios(name string) string {
	v, err := os.ReadFile("/sys/class/dmi/id/" + name)
	if err != nil {
		return ""
	}
	return strings.ToLower(strings.TrimSpace(string(v)))
}

// applySettings writes the settings into the image's root. What cannot be done
// is said, and the boot goes on.
func (b *booter) applySettings(root string) {
	if len(b.h.Settings) == 0 {
		return
	}
	name, err := apply.Apply(root, b.settings, b.facts())
	b.setHostname(name)
	b.say("settings applied: %d documents", len(b.h.Settings))
	if err == nil {
		return
	}
	for line := range strings.Lines(err.Error()) {
		b.log.Error("a setting is left out: " + strings.TrimSpace(line))
	}
}

// environment returns the environment of the image's init: what the kernel
// gave, and what the settings say.
func (b *booter) environment() []string {
	env := os.Environ()
	for name, value := range b.settings.Environment {
		env = append(env, name+"="+value)
	}
	return env
}
