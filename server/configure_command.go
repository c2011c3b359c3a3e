package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/inetboot/inetboot/server/lan/configure"
)

// exitDiffers is the status of --dry-run if the file would change.
const exitDiffers = 2

// configureCommand is "server configure".
type configureCommand struct {
	o      *options
	out    io.Writer
	json   bool
	dryRun bool
	file   string
	reload string
	silent bool // --no-reload
	check  bool
}

func newConfigureCommand(o *options, stdout io.Writer) *cobra.Command {
	c := &configureCommand{o: o, out: stdout}
	cmd := &cobra.Command{
		Use:   "configure",
		Short: "Write configuration of the programs beside the server",
		Long: `Write configuration of the programs beside the server: a DHCP server that is there already, and what
protects or starts this one.

The file is written beside the old one, checked by the program that it is for, and put into its place at
once; the old one is kept as FILE~. If the check fails nothing is changed, and if the program cannot take the
new file it gets the old one again. Give the same options as to the server itself.`,
		Example: `  server configure isc --lan eth0 --dhcp-range 10.0.0.100-10.0.0.199 --dhcp-option router=10.0.0.254
  server configure dnsmasq --lan eth0 --dry-run
  server configure kea --lan eth0 --dhcp-range 10.0.0.100-10.0.0.199,clients=known --json
  server configure nftables --lan eth0 --nfs --allow 22/tcp
  server configure systemd --lan eth0 --nfs --firewall /etc/inetboot/nftables.conf`,
	}
	cmd.AddCommand(c.dhcpCommand(configure.ISC, "ISC dhcpd"), c.dhcpCommand(configure.Dnsmasq, "dnsmasq"), c.dhcpCommand(configure.Kea, "Kea"),
		c.nftablesCommand(), c.systemdCommand())
	return cmd
}

// installFlags are those of all files.
func (c *configureCommand) installFlags(cmd *cobra.Command, file string) {
	f := cmd.Flags()
	f.StringVarP(&c.file, "output", "o", file, "the file to replace; - prints it, unchecked")
	f.BoolVar(&c.dryRun, "dry-run", false, fmt.Sprintf("check it, show what would change, and change nothing; the status is then 0 if nothing would, %d if something would", exitDiffers))
	f.BoolVar(&c.json, "json", false, "print JSON")
	f.BoolVar(&c.check, "no-check", false, "do not have the file checked, where its program is on another machine")
	f.StringVar(&c.reload, "reload", "", "command of sh that makes the program read its file (default: systemctl for its unit, if that runs)")
	f.BoolVar(&c.silent, "no-reload", false, "reload nothing")
}

func (c *configureCommand) dhcpCommand(format configure.Format, name string) *cobra.Command {
	own := *c // each command has its own file
	c = &own
	var template, print string
	var set []string
	var server string
	cmd := &cobra.Command{
		Use:   string(format),
		Short: "Write the configuration of " + name,
		Long: `Write the configuration of ` + name + `, which then gives each kind of firmware its boot file, and the machines
that "server clients" knows their addresses, names and boot files. Start the server with --dhcp off.

--dhcp-range and --dhcp-option are written as for --dhcp full. A range's BITS make another network.
The template is a file, or a folder with it: $KEY stands for a value, and a line @NAME for the contents of a
file or for a part that the program makes. The folder's file "values" has lines KEY=VALUE, and its
folders network0, network1 … hold values, files and a "` + configure.NetworkFile + `" for one network.

Machines that have to boot again, as their boot file, address or name is another one, are listed.`,
		Example: strings.ReplaceAll(`  server configure FORMAT --lan eth0 --dhcp-range 10.0.0.100-10.0.0.199 --dhcp-option router=10.0.0.254
  server configure FORMAT --lan eth0 --dry-run
  server configure FORMAT --print-template >template; server configure FORMAT --lan eth0 --template template
  server configure FORMAT --lan eth0 -o - | ssh dhcp tee new.conf`, "FORMAT", string(format)),
		Args: cobra.NoArgs,
	}
	serverFlags(cmd, c.o)
	c.installFlags(cmd, configure.DefaultFile(format))
	f := cmd.Flags()
	f.StringVar(&template, "template", "", "file or folder of the template (default: the one that is built in)")
	f.StringVar(&print, "print-template", "", "print the template that is built in, or that of --print-template="+configure.NetworkFile+", and end")
	f.Lookup("print-template").NoOptDefVal = configure.MainFile(format)
	complete(cmd, "print-template", configure.MainFile(format), configure.NetworkFile)
	f.StringArrayVar(&set, "set", nil, "value of a template, KEY=VALUE; may be repeated")
	f.StringVar(&server, "server", "", "address of this server in the LAN (default that of --lan)")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if print != "" {
			text, err := configure.Builtin(format, print)
			if err == nil {
				_, err = io.WriteString(c.out, text)
			}
			return err
		}
		values := map[string]string{}
		for _, s := range set {
			k, v, ok := strings.Cut(s, "=")
			if !ok {
				return fmt.Errorf("--set %q: want KEY=VALUE", s)
			}
			values[k] = v
		}
		tmpl, err := configure.OpenTemplate(format, template, values)
		if err != nil {
			return err
		}
		site, warnings, err := c.site(cmd.Context(), server)
		if err != nil {
			return err
		}
		conf, err := configure.Render(tmpl, *site)
		if err != nil {
			return err
		}
		service := configure.Service{Command: c.reload}
		if c.reload == "" && c.file == configure.DefaultFile(format) {
			service = configure.FindService(cmd.Context(), format)
			if file, _ := configure.NamesNoInterface(format, c.o.lan.iface); file != "" && c.o.lan.iface != "" {
				warnings = append(warnings, fmt.Sprintf("%s names no interface, so the service serves all networks, those of IPv6 included, and ends if one of these has no configuration: set INTERFACESv4=\"%s\" there", file, c.o.lan.iface))
			}
		}
		in := &configure.Install{File: c.file, Mode: 0o644, Check: configure.CheckCommand(format)}
		return c.install(cmd.Context(), in, service, conf, append(warnings, conf.Warnings...))
	}
	return cmd
}

// configured is what "server configure" says in JSON.
type configured struct {
	*configure.Result
	DryRun   bool               `json:"dry_run"`
	Reload   string             `json:"reload,omitempty"`
	Reboot   []configure.Reboot `json:"reboot,omitempty"`
	Warnings []string           `json:"warnings,omitempty"`
}

// install writes a file, or shows what would be written.
func (c *configureCommand) install(ctx context.Context, in *configure.Install, service configure.Service, conf *configure.Config, warnings []string) error {
	if c.file == "-" {
		_, err := io.WriteString(c.out, conf.Text)
		return err
	}
	if c.check {
		in.Check = nil
	}
	if c.silent {
		service = configure.Service{}
	}
	switch {
	case service == unitService():
		in.Reload = reloadUnit
	case service.Command != "":
		in.Reload = service.Reload
	}
	step := in.Run
	if c.dryRun {
		step = in.Prepare
	}
	r, err := step(ctx, conf.Text)
	if err != nil {
		if len(warnings) > 0 {
			err = fmt.Errorf("%w\nwarning: %s", err, strings.Join(warnings, "\nwarning: "))
		}
		return err
	}
	d := configured{Result: r, DryRun: c.dryRun, Reload: service.Command, Warnings: warnings}
	if r.Changed && conf.Clients != nil {
		d.Reboot = configure.Compare(configure.ReadTable(r.Old), conf.Clients)
	}
	if c.json {
		e := json.NewEncoder(c.out)
		e.SetIndent("", " ")
		err = e.Encode(d)
	} else {
		err = c.tell(ctx, &d, conf.Text)
	}
	if err == nil && c.dryRun && r.Changed {
		return exitError{code: exitDiffers}
	}
	return err
}

func (c *configureCommand) tell(ctx context.Context, d *configured, text string) error {
	for _, w := range d.Warnings {
		fmt.Fprintln(c.out, "warning:", w)
	}
	switch {
	case !d.Changed:
		fmt.Fprintln(c.out, d.File, "is unchanged")
		return nil
	case d.DryRun:
		if err := c.diff(ctx, d.File, text); err != nil {
			return err
		}
		fmt.Fprintln(c.out, d.File, "would change; it passes the check")
	default:
		fmt.Fprint(c.out, d.File, " is written")
		if d.Backup != "" {
			fmt.Fprint(c.out, "; before, it was ", d.Backup)
		}
		fmt.Fprintln(c.out)
		switch {
		case d.Reloaded:
			fmt.Fprintln(c.out, "reloaded by", d.Reload)
		case !c.silent:
			fmt.Fprintln(c.out, "nothing was reloaded: no unit of systemd runs that has this file; give the command with --reload")
		}
	}
	for _, r := range d.Reboot {
		who := r.Client
		switch who {
		case configure.Others:
			who = "all machines that are not listed"
		case configure.Pools:
			who = "machines of pools with a boot file of their own"
		}
		fmt.Fprintf(c.out, "has to boot again: %s (%s)\n", who, strings.Join(r.What, ", "))
	}
	return nil
}

// diff prints the difference to the file that is there, by diff(1).
func (c *configureCommand) diff(ctx context.Context, file, text string) error {
	old := file
	if _, err := os.Stat(file); err != nil {
		old = "/dev/null"
	}
	cmd := exec.CommandContext(ctx, "diff", "-u", "--label", file, "--label", file+" (new)", old, "-")
	cmd.Stdin, cmd.Stdout = strings.NewReader(text), c.out
	var e *exec.ExitError
	if err := cmd.Run(); err != nil && (!errors.As(err, &e) || e.ExitCode() > 1) {
		return fmt.Errorf("show the difference: %w", err)
	}
	return nil
}

// serverAddress returns the server's address in the LAN: what was given, else
// that of the interface.
func serverAddress(given string, lanNet netip.Prefix) (netip.Addr, error) {
	if given == "" {
		return lanNet.Addr(), nil
	}
	a, err := netip.ParseAddr(given)
	if err != nil || !a.Is4() {
		return a, fmt.Errorf("--server %q: want an IPv4 address", given)
	}
	return a, nil
}

// mediaHas tells whether the folder of the media has all of the files.
func mediaHas(dir string, names ...string) bool {
	for _, n := range names {
		if _, err := os.Stat(filepath.Join(dir, n)); err != nil {
			return false
		}
	}
	return true
}
