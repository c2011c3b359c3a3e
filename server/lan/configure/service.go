package configure

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"
)

// Service is what reads a file: how it is made to, and what it says.
type Service struct {
	Command string // of sh
	Unit    string // of systemd, whose journal is part of an error; "" for none
	Watch   bool   // a start that fails is not told by the command
}

// settle is how long a service is watched after it was started.
const settle = 2 * time.Second

// Reload makes the service read its file.
func (s Service) Reload(ctx context.Context) error {
	began := time.Now()
	err := Shell(s.Command)(ctx)
	for s.Watch && err == nil && time.Since(began) < settle {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(settle / 10):
		}
		if state := unitState(ctx, s.Unit); state != "active" {
			err = fmt.Errorf("%s: then %s is %s", s.Command, s.Unit, state)
		}
	}
	if err == nil || s.Unit == "" {
		return err
	}
	if said := journal(ctx, s.Unit, began); said != "" {
		err = fmt.Errorf("%w\n%s", err, said)
	}
	return err
}

// journal returns the last lines of what a unit has said since then, "" if
// there is no journal.
func journal(ctx context.Context, unit string, since time.Time) string {
	_ = exec.CommandContext(ctx, "journalctl", "--sync").Run() // else the last lines may be missing
	cmd := exec.CommandContext(ctx, "journalctl", "--quiet", "--no-pager", "--output=cat", "--lines=12", "--unit="+unit, fmt.Sprintf("--since=@%d", since.Unix()))
	cmd.WaitDelay = time.Second
	out, err := cmd.Output()
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(out))
}

func unitState(ctx context.Context, unit string) string {
	out, _ := exec.CommandContext(ctx, "systemctl", "is-active", unit).Output() // its status says the same
	return strings.TrimSpace(string(out))
}

// units are the services of systemd that a format's program runs as. dhcpd and
// dnsmasq read their configuration at the start only, and Debian's Kea has no
// other way.
func units(f Format) (names []string, verb string) {
	switch f {
	case ISC:
		return []string{"isc-dhcp-server.service", "dhcpd.service"}, "restart"
	case Dnsmasq:
		return []string{"dnsmasq.service"}, "restart"
	}
	return []string{"kea-dhcp4-server.service", "kea-dhcp4.service"}, "reload-or-restart"
}

// FindService returns the format's service that runs, or that could not start,
// as one does whose file was not there yet. The command is "" if there is none.
func FindService(ctx context.Context, f Format) Service {
	names, verb := units(f)
	for _, want := range []string{"active", "failed"} {
		for _, u := range names {
			if unitState(ctx, u) == want {
				// Units of Kea are ready as soon as they are begun.
				return Service{Command: "systemctl " + verb + " " + u, Unit: u, Watch: f == Kea}
			}
		}
	}
	return Service{}
}

// iscDefaults is where Debian says which interfaces dhcpd serves.
const iscDefaults = "/etc/default/isc-dhcp-server"

// NamesNoInterface returns the file in which Debian names the interfaces of the
// format's service, and what is to be in it, if none is named there: as it comes,
// isc-dhcp-server does not start, because IPv6 has no configuration. Else file is
// "".
func NamesNoInterface(f Format, iface string) (file, text string) {
	if f != ISC || !interfaceOK(iface) {
		return "", ""
	}
	b, err := os.ReadFile(iscDefaults)
	if err != nil {
		return "", ""
	}
	if text, ok := nameInterface(string(b), iface); ok {
		return iscDefaults, text
	}
	return "", ""
}

// nameInterface puts an interface into what sh reads; ok is false if there is one.
func nameInterface(old, iface string) (text string, ok bool) {
	const v4, v6 = "INTERFACESv4=", "INTERFACESv6="
	at := false
	var b strings.Builder
	for l := range strings.Lines(old) {
		switch t := strings.TrimSpace(l); {
		case t == v4 || t == v4+`""` || t == v4+"''":
			l, at = v4+`"`+iface+"\"\n", true
		case t == v6 || t == v6+`""` || t == v6+"''":
		case strings.HasPrefix(t, "INTERFACES"):
			return "", false
		}
		b.WriteString(l)
	}
	if !at {
		b.WriteString(v4 + `"` + iface + "\"\n")
	}
	return b.String(), true
}
