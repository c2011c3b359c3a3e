package clients

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/inetboot/inetboot/internal/bootsettings"
	"github.com/inetboot/inetboot/internal/clientsettings"
)

// answerValidity is how long a machine may use what it was told: as long as
// somebody looks at a menu.
const answerValidity = 10 * time.Minute

// Variables returns all that holds for a machine by names of a shell: the
// variables of env.NAME as they are, and the settings with CLIENT_ before them.
func (s *Settings) Variables(mac string) map[string]string {
	yes := map[bool]string{true: "yes", false: "no"}
	out := map[string]string{"CLIENT_MAC": mac, "CLIENT_KNOWN": yes[s.Known], "CLIENT_BOOT": string(s.Boot)}
	timeout, swap, addr := "", "", ""
	if s.Timeout != nil {
		timeout = strconv.Itoa(*s.Timeout)
	}
	switch {
	case s.Swap == DefaultSwap:
		swap = "yes"
	case s.Swap > 0:
		swap = strconv.FormatInt(s.Swap, 10)
	}
	if s.Address.IsValid() {
		addr = s.Address.String()
	}
	for name, value := range map[string]string{
		"CLIENT_NAME": s.Name, "CLIENT_ADDRESS": addr, "CLIENT_TYPE": s.Type, "CLIENT_GROUPS": strings.Join(s.Groups, " "), "CLIENT_SERVICES": strings.Join(s.Services, " "),
		"CLIENT_IMAGE": s.Image, "CLIENT_ENTRY": s.Entry, "CLIENT_TIMEOUT": timeout, "CLIENT_ARGUMENTS": strings.Join(s.KernelArguments(), " "),
		"CLIENT_HOSTNAME": s.systemName(), "CLIENT_TIMEZONE": s.Timezone, "CLIENT_LOCALE": s.Locale, "CLIENT_KEYBOARD": s.Keyboard, "CLIENT_SWAP": swap,
	} {
		if value != "" {
			out[name] = value
		}
	}
	for name, value := range s.Environment {
		out[name] = value
	}
	return out
}

// systemName is the name that the system gives itself, a pattern.
func (s *Settings) systemName() string {
	if s.Hostname != "" {
		return s.Hostname
	}
	return s.Name
}

// Answer returns what a machine is told when it asks for its settings. Errors
// say which setting cannot be told.
func (s *Settings) Answer(r clientsettings.Request, now time.Time) (*clientsettings.Answer, error) {
	now = now.UTC().Truncate(time.Second)
	a := &clientsettings.Answer{
		Format: clientsettings.Format, MAC: r.MAC, UUID: r.UUID, Host: r.Host, Nonce: r.Nonce, Issued: now, Expires: now.Add(answerValidity),
		Known: s.Known, SetupOnly: s.SetupOnly, Image: s.Image, Entry: s.Entry, Timeout: s.Timeout,
		Settings: &bootsettings.Settings{
			Format: bootsettings.Format, Hostname: s.systemName(), Timezone: s.Timezone, Locale: s.Locale,
			Cmdline: strings.Join(s.KernelArguments(), " "), Environment: s.Environment,
		},
		Variables: s.Variables(r.MAC),
	}
	if layout, variant, _ := strings.Cut(s.Keyboard, "/"); layout != "" {
		a.Settings.Keyboard = &bootsettings.Keyboard{Layout: layout, Variant: variant}
	}
	if err := a.Check(); err != nil {
		return nil, fmt.Errorf("the settings of %s cannot be told to it: %w (see `server clients show %s`)", r.MAC, err, r.MAC)
	}
	return a, nil
}

// withSetup adds the service of machines that nobody has set up.
func withSetup(services []string) []string {
	if slices.Contains(services, SetupEntry) {
		return services
	}
	return append(slices.Clone(services), SetupEntry)
}
