package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/inetboot/inetboot/server/lan"
	"github.com/inetboot/inetboot/server/lan/configure"
	"github.com/inetboot/inetboot/server/setup"
)

// ownFlags are the options of "server configure" that are not the server's.
func ownFlags() []string {
	return []string{"output", "dry-run", "json", "no-check", "reload", "no-reload", "allow", "interface", "program", "firewall", "credential",
		"yes", "remove", "name", "dhcp-server", "dhcp-file", "no-firewall"}
}

func (c *configureCommand) nftablesCommand() *cobra.Command {
	own := *c
	c = &own
	var allow, interfaces []string
	cmd := &cobra.Command{
		Use:   "nftables",
		Short: "Write firewall rules that open the configured ports on the LAN, and no others",
		Long: `Write firewall rules of nftables, in a table of their own, that open the ports of the server's options on
the interface of --lan, and refuse all others there. Other interfaces, and other tables, are left alone: what another
table drops stays dropped. They are loaded at once; "server configure systemd --firewall" loads them at each start.`,
		Example: `  server configure nftables --lan eth0 --nfs --nbd --allow 22/tcp
  server configure nftables --lan eth0 -o - | less`,
		Args: cobra.NoArgs,
	}
	serverFlags(cmd, c.o)
	c.installFlags(cmd, configure.NftablesFile)
	f := cmd.Flags()
	f.StringArrayVar(&allow, "allow", nil, "one more port that is open, such as 22/tcp; may be repeated")
	f.StringArrayVar(&interfaces, "interface", nil, "one more interface for the same rules; may be repeated")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		text, err := nftablesText(c.o, allow, interfaces)
		if err != nil {
			return err
		}
		in := &configure.Install{File: c.file, Mode: 0o644, Check: configure.NftablesCheck}
		service := configure.Service{Command: c.reload}
		if c.reload == "" && c.file == configure.NftablesFile {
			service.Command = "nft -f " + configure.NftablesFile
		}
		if err := c.makeFolder(); err != nil {
			return err
		}
		return c.install(cmd.Context(), in, service, &configure.Config{Text: text}, nil)
	}
	return cmd
}

// makeFolder makes /etc/inetboot, the only folder of ours.
func (c *configureCommand) makeFolder() error {
	if dir := filepath.Dir(configure.NftablesFile); filepath.Dir(c.file) == dir && !c.dryRun {
		return os.MkdirAll(dir, 0o755)
	}
	return nil
}

func nftablesText(o *options, allow, more []string) (string, error) {
	if o.lan.iface == "" {
		return "", errors.New("which LAN? name its interface with --lan")
	}
	ports, err := configuredPorts(o)
	if err != nil {
		return "", err
	}
	for _, a := range allow {
		p, err := configure.ParsePort(a)
		if err != nil {
			return "", fmt.Errorf("--allow: %w", err)
		}
		ports = append(ports, p)
	}
	if err := keepsSession(o.lan.iface, ports); err != nil {
		return "", err
	}
	return configure.Nftables(append([]string{o.lan.iface}, more...), ports)
}

// keepsSession refuses rules that would shut out whoever loads them over ssh.
func keepsSession(iface string, ports []configure.Port) error {
	s := strings.Fields(os.Getenv("SSH_CONNECTION")) // client, its port, server, its port
	if len(s) != 4 {
		return nil
	}
	port, err := strconv.Atoi(s[3])
	i, ierr := lan.FindInterface(iface)
	if err != nil || ierr != nil || slices.ContainsFunc(ports, func(p configure.Port) bool { return p.Proto == "tcp" && p.Port == port }) {
		return nil
	}
	for _, a := range i.All {
		if a.Addr().String() == s[2] {
			return fmt.Errorf("these rules would shut out ssh, over which you are here: --allow %d/tcp keeps it open", port)
		}
	}
	return nil
}

func (c *configureCommand) systemdCommand() *cobra.Command {
	own := *c
	c = &own
	var u unitOptions
	cmd := &cobra.Command{
		Use:   "systemd",
		Short: "Write a unit that runs the server with these options, and with no more than it needs",
		Long: `Write a unit of systemd that runs the server with the options that are given. It never is root: it runs as the
user of --user, with the capabilities that its ports and DHCP need, and is kept from everything beside its data.
The unit is enabled, and started or restarted.`,
		Example: `  server configure systemd --lan eth0 --nfs --nbd --firewall /etc/inetboot/nftables.conf
  server configure systemd --lan eth0 --dhcp full --dhcp-range 10.0.0.100-10.0.0.199 --dry-run
  server configure systemd --lan eth0 --credential /etc/inetboot-passphrase.cred`,
		Args: cobra.NoArgs,
	}
	serverFlags(cmd, c.o)
	c.installFlags(cmd, configure.UnitFile)
	u.flags(cmd.Flags())
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		text, err := u.text(c.o, cmd.Flags())
		if err != nil {
			return err
		}
		var warnings []string
		if dir := closedTo(u.path); dir != "" {
			warnings = append(warnings, fmt.Sprintf("%s keeps others than its owner out, and so the service's user from its program %s: put it elsewhere, as server setup does", dir, u.path))
		}
		in := &configure.Install{File: c.file, Mode: 0o644, Check: configure.UnitCheck}
		service := configure.Service{Command: c.reload}
		if c.reload == "" && c.file == configure.UnitFile {
			service = unitService()
			name := cmp.Or(c.o.lan.user, lanUser)
			if _, err := user.Lookup(name); err != nil && !c.silent && !c.dryRun {
				return fmt.Errorf("the service's user: %w: make it (useradd --system --user-group --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin %s), or have server setup do it all", err, name)
			}
		}
		return c.install(cmd.Context(), in, service, &configure.Config{Text: text}, warnings)
	}
	return cmd
}

// closedTo returns which part of a path others than its owner cannot pass, ""
// for none.
func closedTo(path string) string {
	for p := path; ; p = filepath.Dir(p) {
		if info, err := os.Stat(p); err == nil && info.Mode()&0o001 == 0 {
			return p
		}
		if p == filepath.Dir(p) {
			return ""
		}
	}
}

// unitService starts the unit anew, at each boot of the machine, too.
func unitService() configure.Service {
	return configure.Service{Command: "systemctl daemon-reload && systemctl enable -q inetboot.service && systemctl restart inetboot.service", Unit: "inetboot.service"}
}

// reloadUnit starts the unit anew, or, if it is taken away again, ends it.
func reloadUnit(ctx context.Context) error {
	return whereThere(configure.UnitFile, unitService().Reload, "systemctl stop inetboot.service; systemctl disable -q inetboot.service; systemctl daemon-reload")(ctx)
}

// unitOptions are what a unit has beside the server's options.
type unitOptions struct {
	program, firewall, credential string
	path                          string // of the program, set by text
}

func (u *unitOptions) flags(f *pflag.FlagSet) {
	f.StringVar(&u.program, "program", "", "the server's program (default: this one)")
	f.StringVar(&u.firewall, "firewall", "", "rules of nftables that are loaded before each start")
	f.StringVar(&u.credential, "credential", "", "file of systemd-creds with the passphrase of the server's keys")
}

// text makes the unit. set are the flags as they were given.
func (u *unitOptions) text(o *options, set *pflag.FlagSet) (string, error) {
	data, err := dataFolder(o)
	if err == nil {
		data, err = filepath.Abs(data)
	}
	if err != nil {
		return "", err
	}
	v := configure.Unit{Program: u.program, User: o.lan.user, Data: data, Firewall: u.firewall}
	if v.User == "" {
		v.User = lanUser
	}
	if v.Program == "" {
		if v.Program, err = os.Executable(); err != nil {
			return "", fmt.Errorf("find the server's program (or give --program): %w", err)
		}
	}
	u.path = v.Program
	if u.credential != "" {
		v.Credential = [2]string{setup.PassphraseCredential, u.credential}
	}
	if v.Args, err = serverArgs(set); err != nil {
		return "", err
	}
	if !set.Changed("data") { // the unit's user has no home, where it would be by default
		v.Args = append([]string{"--data=" + data}, v.Args...)
	}
	ports, err := configuredPorts(o)
	if err != nil {
		return "", err
	}
	if slices.ContainsFunc(ports, func(p configure.Port) bool { return p.Port < 1024 }) {
		v.Capabilities = append(v.Capabilities, "CAP_NET_BIND_SERVICE")
	}
	if o.lan.iface != "" && o.lan.dhcp.mode != "off" {
		v.Capabilities, v.Packet = append(v.Capabilities, "CAP_NET_RAW"), true
	}
	for _, p := range []string{o.lan.boot.media, o.lan.boot.arm64File(), o.lan.clients, o.tokenFile, o.passphraseFile, o.tlsCert, o.tlsKey} {
		if p != "" {
			v.Readable = append(v.Readable, p)
		}
	}
	return configure.Systemd(v)
}

// pathFlags name files, which a unit needs whole.
func pathFlags() []string {
	return []string{"data", "token-file", "passphrase-file", "tls-cert", "tls-key", "media", "arm64", "clients"}
}

// serverArgs returns the server's options as they were given, without the user,
// whom the unit names.
func serverArgs(set *pflag.FlagSet) (args []string, err error) {
	set.Visit(func(f *pflag.Flag) {
		if slices.Contains(ownFlags(), f.Name) || f.Name == "user" {
			return
		}
		if list, ok := f.Value.(pflag.SliceValue); ok {
			for _, v := range list.GetSlice() {
				args = append(args, "--"+f.Name+"="+v)
			}
			return
		}
		v := f.Value.String()
		if slices.Contains(pathFlags(), f.Name) && !strings.Contains(v, "://") {
			var aerr error
			if v, aerr = filepath.Abs(v); aerr != nil {
				err = errors.Join(err, aerr)
			}
		}
		args = append(args, "--"+f.Name+"="+v)
	})
	return args, err
}

// listens tells whether a program on this machine listens at a TCP port.
func listens(ctx context.Context, port int) bool {
	d := net.Dialer{}
	c, err := d.DialContext(ctx, "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		return lan.Holder("tcp", port) != ""
	}
	return c.Close() == nil
}

// found tells whether a program is there.
func found(name string) bool {
	_, err := exec.LookPath(name)
	return err == nil
}
