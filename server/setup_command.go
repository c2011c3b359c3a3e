package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/inetboot/inetboot/server/lan"
	"github.com/inetboot/inetboot/server/lan/configure"
	"github.com/inetboot/inetboot/server/setup"
)

// setupCommand is "server setup".
type setupCommand struct {
	o      *options
	in     *bufio.Reader
	out    io.Writer
	yes    bool
	dryRun bool
	json   bool
	remove bool

	name       string
	dhcpServer string // existing DHCP server that is configured, or ""
	dhcpFile   string
	noFirewall bool
	allow      []string
	program    string
	answers    *pflag.FlagSet
}

func newSetupCommand(o *options, stdin io.Reader, stdout io.Writer) *cobra.Command {
	c := &setupCommand{o: o, in: bufio.NewReader(stdin), out: stdout}
	cmd := &cobra.Command{
		Use:   "setup",
		Short: "Set this machine up as a boot server of a LAN",
		Long: `Set this machine up as a boot server of a LAN: the user, the data folder with its keys, firewall rules, the
configuration of a DHCP server that is there, and a service of systemd that starts at each boot.

It asks for what was not given as an option, shows what it is going to do, and does it. If a step fails, what was
done before is undone. A second run changes only what differs. All options of the server itself are taken, too.`,
		Example: `  server setup
  server setup --yes --lan eth0 --nfs --nbd
  server setup --yes --lan eth0 --dhcp full --dhcp-range 10.0.0.100-10.0.0.199,router=10.0.0.254 --dns --dns-domain lab.example.org --name boot.example.org
  server setup --yes --lan eth0 --dhcp-server isc --dhcp-range 10.0.0.100-10.0.0.199
  server setup --lan eth0 --dry-run
  server setup --remove`,
		Args: cobra.NoArgs,
	}
	serverFlags(cmd, o)
	f := cmd.Flags()
	f.BoolVarP(&c.yes, "yes", "y", false, "ask nothing: take the options, and defaults for the rest")
	f.BoolVar(&c.dryRun, "dry-run", false, fmt.Sprintf("show what there is to do, and do nothing; the status is then 0 if there is nothing, %d if there is something", exitDiffers))
	f.BoolVar(&c.remove, "remove", false, "take away what setup has made: service, firewall rules, program and boot files; data, user and another DHCP server's configuration stay")
	f.BoolVar(&c.json, "json", false, "print JSON")
	f.StringVar(&c.name, "name", "", "name of this server, by which publishers reach it (default its address in the LAN)")
	f.StringVar(&c.dhcpServer, "dhcp-server", "", "DHCP server on this machine that is configured instead of ours: isc, dnsmasq or kea")
	f.StringVar(&c.dhcpFile, "dhcp-file", "", "its file (default that of Debian)")
	f.BoolVar(&c.noFirewall, "no-firewall", false, "write no firewall rules")
	f.StringArrayVar(&c.allow, "allow", nil, "one more port that the firewall leaves open, such as 22/tcp; may be repeated (default 22/tcp if there is an ssh server)")
	f.StringVar(&c.program, "program", "", "the server's program (default: this one)")
	complete(cmd, "dhcp-server", "isc", "dnsmasq", "kea")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c.answers = cmd.Flags()
		return c.run(cmd.Context())
	}
	return cmd
}

func (c *setupCommand) run(ctx context.Context) error {
	if os.Geteuid() != 0 {
		return errors.New("setting up needs root: it makes a user, opens ports and starts a service")
	}
	steps, warnings := removeSteps(), []string(nil)
	if !c.remove {
		if err := c.ask(); err != nil {
			return err
		}
		var err error
		if steps, warnings, err = c.steps(ctx); err != nil {
			return err
		}
	}
	list, err := setup.Plan(ctx, steps)
	if err != nil {
		return fmt.Errorf("nothing was changed: %w", err)
	}
	if c.json {
		return c.runJSON(ctx, list, warnings)
	}
	for _, w := range warnings {
		fmt.Fprintln(c.out, "warning:", w)
	}
	if len(list) == 0 && c.remove {
		fmt.Fprintln(c.out, "there is nothing to remove")
		return nil
	}
	if len(list) == 0 {
		fmt.Fprintln(c.out, "all is as it should be")
		return nil
	}
	for _, p := range list {
		fmt.Fprintln(c.out, "to do:", p.What)
	}
	if c.dryRun {
		return exitError{code: exitDiffers}
	}
	if !c.yes {
		a, err := c.question("Do it?", "yes", "yes", "no")
		if err != nil {
			return err
		}
		if a != "yes" {
			return errors.New("nothing was changed")
		}
	}
	if err := setup.Do(ctx, list, func(s string) { fmt.Fprintln(c.out, s) }); err != nil {
		return err
	}
	if c.remove {
		_, err = fmt.Fprintln(c.out, c.left())
		return err
	}
	more := ""
	if c.o.lan.dns.on {
		more = " --dns"
	}
	_, err = fmt.Fprintf(c.out, "publishers: imagetool init --to %s --token-file %s\ntry it: server doctor --lan %s%s\n", c.o.url, c.tokenFile(), c.o.lan.iface, more)
	return err
}

func (c *setupCommand) runJSON(ctx context.Context, list []setup.Planned, warnings []string) error {
	result := struct {
		DryRun   bool     `json:"dry_run"`
		Todo     []string `json:"todo"`
		Log      []string `json:"log"`
		Warnings []string `json:"warnings,omitempty"`
		Error    string   `json:"error,omitempty"`
	}{DryRun: c.dryRun, Todo: []string{}, Log: []string{}, Warnings: warnings}
	for _, p := range list {
		result.Todo = append(result.Todo, p.What)
	}
	var err error
	switch {
	case c.dryRun && len(list) > 0:
		err = exitError{code: exitDiffers}
	case !c.dryRun && !c.yes:
		return errors.New("--json asks nothing: give --yes or --dry-run, too")
	case !c.dryRun:
		if err = setup.Do(ctx, list, func(s string) { result.Log = append(result.Log, s) }); err != nil {
			result.Error = err.Error()
		}
	}
	e := json.NewEncoder(c.out)
	e.SetIndent("", " ")
	return errors.Join(e.Encode(result), err)
}

// question asks for one of some answers, or for any if there are none.
func (c *setupCommand) question(text, preset string, of ...string) (string, error) {
	for range 5 {
		fmt.Fprint(c.out, text)
		if len(of) > 0 {
			fmt.Fprintf(c.out, " (%s)", strings.Join(of, ", "))
		}
		if preset != "" {
			fmt.Fprintf(c.out, " [%s]", preset)
		}
		fmt.Fprint(c.out, " ")
		line, err := c.in.ReadString('\n')
		line = strings.TrimSpace(line)
		switch {
		case line == "" && err != nil:
			return "", errors.New("no answer: --yes asks nothing and takes options and defaults")
		case line == "":
			line = preset
		}
		for _, a := range of {
			if line != "" && strings.HasPrefix(a, strings.ToLower(line)) {
				return a, nil
			}
		}
		if len(of) == 0 && line != "" {
			return line, nil
		}
	}
	return "", fmt.Errorf("%s: no answer that fits", text)
}

// ask completes the options by questions, or with --yes by defaults. They are
// set as flags are, since the unit gets those that were given.
func (c *setupCommand) ask() error {
	given := c.answers.Changed
	put := func(flag, value string) error { return c.answers.Set(flag, value) }
	if !given("lan") {
		names := lanCandidates()
		preset := ""
		if len(names) > 0 {
			preset = names[0]
		}
		if c.yes {
			if len(names) > 1 {
				return fmt.Errorf("--lan: which interface? there are %s", strings.Join(names, ", "))
			}
		} else if len(names) > 0 {
			var err error
			if preset, err = c.question("Interface of the LAN?", preset, names...); err != nil {
				return err
			}
		}
		if preset == "" {
			return errors.New("no interface is up and has an IPv4 address: set one up, and name it with --lan")
		}
		if err := put("lan", preset); err != nil {
			return err
		}
	}
	i, err := lan.FindInterface(c.o.lan.iface)
	if err != nil {
		return err
	}
	if c.dhcpServer != "" {
		if !slices.Contains(configure.Formats(), configure.Format(c.dhcpServer)) {
			return fmt.Errorf("--dhcp-server %q: there are %v", c.dhcpServer, configure.Formats())
		}
		if given("dhcp") && c.o.lan.dhcp.mode != "off" {
			return errors.New("--dhcp-server goes with --dhcp off: one of them tells machines what to boot")
		}
		if err := put("dhcp", "off"); err != nil {
			return err
		}
	}
	if !c.yes {
		if err := c.askMore(i); err != nil {
			return err
		}
	}
	if c.o.lan.dhcp.mode == "full" && !given("dhcp-range") && c.yes {
		return errors.New("--dhcp full: which addresses? --dhcp-range FIRST-LAST")
	}
	if c.o.url == "" {
		host := c.name
		if host == "" {
			host = i.IPv4.Addr().String()
		}
		_, port, err := net.SplitHostPort(c.o.listen)
		if err != nil {
			return fmt.Errorf("--listen %q: %w", c.o.listen, err)
		}
		scheme := "http"
		if c.o.tlsCert != "" {
			scheme = "https"
		}
		return put("url", scheme+"://"+net.JoinHostPort(host, port))
	}
	return nil
}

func (c *setupCommand) askMore(i *lan.Interface) error {
	given := c.answers.Changed
	put := func(flag, value string) error { return c.answers.Set(flag, value) }
	if !given("dhcp") {
		a, err := c.question("Who tells machines what to boot: proxy (beside the DHCP server of the LAN), full (this server gives addresses, too), or the DHCP server on this machine", "proxy", "proxy", "full", "isc", "dnsmasq", "kea")
		if err != nil {
			return err
		}
		if a != "proxy" && a != "full" {
			c.dhcpServer, a = a, "off"
		}
		if err := put("dhcp", a); err != nil {
			return err
		}
	}
	if (c.o.lan.dhcp.mode == "full" || c.dhcpServer != "") && !given("dhcp-range") {
		a, err := c.question("Addresses that it gives, FIRST-LAST?", suggestRange(i.IPv4))
		if err != nil {
			return err
		}
		if err := put("dhcp-range", a); err != nil {
			return err
		}
	}
	if c.name == "" && c.o.url == "" {
		a, err := c.question("Name or address by which publishers reach this server?", i.IPv4.Addr().String())
		if err != nil {
			return err
		}
		c.name = a
	}
	if !given("data") {
		dir, err := dataFolder(c.o)
		if err != nil {
			return err
		}
		if dir, err = c.question("Folder for the data?", dir); err != nil {
			return err
		}
		if err := put("data", dir); err != nil {
			return err
		}
	}
	names := "no"
	if c.o.lan.dhcp.mode == "full" {
		names = "yes"
	}
	for _, s := range []struct{ flag, what, preset string }{
		{"dns", "Names of the machines by DNS?", names}, {"nfs", "Roots over NFS?", "no"}, {"nbd", "Roots over NBD?", "no"}, {"swap", "Swap over NBD?", "no"},
	} {
		if given(s.flag) {
			continue
		}
		a, err := c.question(s.what, s.preset, "yes", "no")
		if err != nil {
			return err
		}
		if a == "yes" {
			if err := put(s.flag, "true"); err != nil {
				return err
			}
		}
	}
	return nil
}

// suggestRange is the upper half of a network, but for its last addresses.
func suggestRange(p netip.Prefix) string {
	if p.Bits() > 28 || p.Bits() < 16 {
		return ""
	}
	size := uint32(1) << (32 - p.Bits())
	b := p.Masked().Addr().As4()
	at := func(n uint32) netip.Addr {
		v := uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3]) + n
		return netip.AddrFrom4([4]byte{byte(v >> 24), byte(v >> 16), byte(v >> 8), byte(v)})
	}
	return fmt.Sprintf("%v-%v", at(size/2), at(size-size/16-1))
}

// lanCandidates are the interfaces that are up and have an IPv4 address.
func lanCandidates() []string {
	all, err := net.Interfaces()
	if err != nil {
		return nil
	}
	var names []string
	for _, i := range all {
		if i.Flags&net.FlagLoopback == 0 && i.Flags&net.FlagUp != 0 {
			if _, err := lan.FindInterface(i.Name); err == nil {
				names = append(names, i.Name)
			}
		}
	}
	return names
}
