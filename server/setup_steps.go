package main

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/netip"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/inetboot/inetboot/server/lan"
	"github.com/inetboot/inetboot/server/lan/bootmedia"
	"github.com/inetboot/inetboot/server/lan/configure"
	"github.com/inetboot/inetboot/server/setup"
)

func (c *setupCommand) userName() string { return cmp.Or(c.o.lan.user, lanUser) }

func (c *setupCommand) tokenFile() string {
	if c.o.tokenFile != "" {
		return c.o.tokenFile
	}
	data, err := dataFolder(c.o)
	if err != nil {
		return ""
	}
	return setup.TokenIn(data)
}

// steps are what there may be to do, in its order.
func (c *setupCommand) steps(ctx context.Context) (steps []setup.Step, warnings []string, err error) {
	if err := c.portsFree(); err != nil {
		return nil, nil, err
	}
	steps = append(steps, c.userStep(), c.dataStep())
	dir := cmp.Or(c.o.lan.boot.media, findMedia())
	if dir == "" {
		warnings = append(warnings, "no boot files: they are neither beside the program nor in "+mediaFolder+", so machines cannot boot from this server yet; needed are "+strings.Join(bootmedia.Needed(), " "))
	} else if !mediaHas(dir, bootmedia.Needed()...) {
		return nil, nil, fmt.Errorf("--media %s: needed are %s", dir, strings.Join(bootmedia.Needed(), ", "))
	}
	program, err := c.programPath()
	if err != nil {
		return nil, nil, err
	}
	u := unitOptions{program: program}
	files := map[string]string{} // that are installed: name to where it is
	if !installed(program) {
		files["server"], u.program = program, filepath.Join(installFolder, "server")
	}
	if dir != "" && !installed(dir) {
		for _, n := range append(bootmedia.Needed(), bootmedia.Optional()...) {
			if mediaHas(dir, n) {
				files[n] = filepath.Join(dir, n)
			}
		}
	}
	if err := c.o.lan.boot.checkARM64(); err != nil {
		return nil, nil, err
	}
	arm64 := c.o.lan.boot.arm64File()
	if arm64 != "" {
		if arm64, err = filepath.Abs(arm64); err != nil {
			return nil, nil, err
		}
		if !installed(arm64) {
			files[bootmedia.ARM64] = arm64
		}
	}
	if len(files) > 0 {
		steps = append(steps, copyStep(files))
	}
	if !c.noFirewall {
		if found("nft") {
			step, more, err := c.firewallStep(ctx)
			if err != nil {
				return nil, nil, err
			}
			steps, warnings = append(steps, step), append(warnings, more...)
			u.firewall = configure.NftablesFile
		} else {
			warnings = append(warnings, "no firewall rules: nft is not on this machine")
		}
	}
	if c.dhcpServer != "" {
		if file, text := configure.NamesNoInterface(configure.Format(c.dhcpServer), c.o.lan.iface); file != "" {
			steps = append(steps, installStep("the DHCP server's interface", "name "+c.o.lan.iface+" in "+file, &configure.Install{File: file, Mode: 0o644}, text))
		}
		step, more, err := c.dhcpStep(ctx)
		if err != nil {
			return nil, nil, err
		}
		steps, warnings = append(steps, step), append(warnings, more...)
	}
	if dir != "" && !installed(dir) { // not before: until they are copied, the files are in dir
		if err := c.answers.Set("media", installFolder); err != nil {
			return nil, nil, err
		}
	}
	if arm64 != "" && !installed(arm64) {
		if err := c.answers.Set("arm64", filepath.Join(installFolder, bootmedia.ARM64)); err != nil {
			return nil, nil, err
		}
	}
	text, err := u.text(c.o, c.answers)
	if err != nil {
		return nil, nil, err
	}
	sum, err := fileSum(program)
	if err != nil {
		return nil, nil, err
	}
	text += "\n# The program, so that another one is started: " + sum + "\n"
	if !found("systemd-analyze") {
		return steps, append(warnings, "no service: systemd is not on this machine; start the server yourself"), nil
	}
	in := &configure.Install{File: configure.UnitFile, Mode: 0o644, Check: configure.UnitCheck}
	if booted() {
		in.Reload = reloadUnit
	} else {
		warnings = append(warnings, "systemd does not run here, so the service is not started")
	}
	service := installStep("the service", "write "+configure.UnitFile+", enable and start it", in, text)
	plan := service.Plan
	service.Plan = func(ctx context.Context) (string, error) {
		if _, err := os.Stat(u.program); errors.Is(err, fs.ErrNotExist) {
			return "write " + configure.UnitFile + ", enable and start it", nil // it cannot be checked without its program
		}
		return plan(ctx)
	}
	return append(steps, service), warnings, nil
}

// installFolder is where program and boot files are put that lie where only
// their owner gets to, as a home.
const installFolder = "/usr/local/lib/inetboot"

// installed tells whether a path is one of those where programs lie for all.
func installed(path string) bool {
	return strings.HasPrefix(path, "/usr/") || strings.HasPrefix(path, "/opt/")
}

func (c *setupCommand) programPath() (string, error) {
	if c.program != "" {
		return filepath.Abs(c.program)
	}
	exe, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("find the server's program (or give --program): %w", err)
	}
	return exe, nil
}

func fileSum(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", fmt.Errorf("read %s: %w", path, err)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// copyStep puts program and boot files into the install folder.
func copyStep(files map[string]string) setup.Step {
	type copied struct {
		in     *configure.Install
		result *configure.Result
	}
	var done []copied
	made := false // the folder
	undo := func(ctx context.Context) error {
		var errs []error
		for _, c := range slices.Backward(done) {
			errs = append(errs, c.in.Undo(ctx, c.result))
		}
		if made {
			errs = append(errs, os.RemoveAll(installFolder))
		}
		return errors.Join(errs...)
	}
	names := slices.Sorted(maps.Keys(files))
	return setup.Step{
		Name: "program and boot files",
		Plan: func(context.Context) (string, error) {
			for _, n := range names {
				want, err := fileSum(files[n])
				if err != nil {
					return "", err
				}
				if have, err := fileSum(filepath.Join(installFolder, n)); err != nil || have != want {
					return "copy program and boot files to " + installFolder, nil
				}
			}
			return "", nil
		},
		Do: func(ctx context.Context) error {
			done, made = nil, false
			if _, err := os.Stat(installFolder); errors.Is(err, fs.ErrNotExist) {
				made = true
			}
			if err := os.MkdirAll(installFolder, 0o755); err != nil {
				return err
			}
			for _, n := range names {
				c := copied{in: &configure.Install{File: filepath.Join(installFolder, n), Mode: 0o644}}
				if n == "server" {
					c.in.Mode = 0o755
				}
				data, err := os.ReadFile(files[n])
				if err == nil {
					c.result, err = c.in.Run(ctx, string(data))
				}
				if err != nil {
					return errors.Join(err, undo(ctx))
				}
				done = append(done, c)
			}
			return nil
		},
		Undo: undo,
	}
}

// booted tells whether systemd runs this machine (sd_booted(3)).
func booted() bool {
	_, err := os.Stat("/run/systemd/system")
	return err == nil
}

// whereThere makes a reload that depends on whether the file is there: it is not
// when its making is undone.
func whereThere(file string, there func(context.Context) error, gone string) func(context.Context) error {
	return func(ctx context.Context) error {
		if _, err := os.Stat(file); errors.Is(err, fs.ErrNotExist) {
			return configure.Shell(gone)(ctx)
		}
		return there(ctx)
	}
}

// installStep replaces a file.
func installStep(name, what string, in *configure.Install, text string) setup.Step {
	var done *configure.Result
	return setup.Step{
		Name: name,
		Plan: func(ctx context.Context) (string, error) {
			// The folder may be one that this step makes.
			if _, err := os.Stat(filepath.Dir(in.File)); errors.Is(err, fs.ErrNotExist) {
				return what, nil
			}
			r, err := in.Prepare(ctx, text)
			if err != nil || !r.Changed {
				return "", err
			}
			return what, nil
		},
		Do: func(ctx context.Context) (err error) {
			if err := os.MkdirAll(filepath.Dir(in.File), 0o755); err != nil {
				return err
			}
			done, err = in.Run(ctx, text)
			return err
		},
		Undo: func(ctx context.Context) error { return in.Undo(ctx, done) },
	}
}

// isServer tells whether the holder of a port is a server of ours.
func (c *setupCommand) isServer(by string) bool {
	self := "server"
	if exe, err := os.Executable(); err == nil {
		self = filepath.Base(exe)
	}
	if c.program != "" {
		self = filepath.Base(c.program)
	}
	return strings.HasPrefix(by, self[:min(15, len(self))]+" (") // the name of a process has 15 bytes
}

// portsFree checks that nobody else has the ports.
func (c *setupCommand) portsFree() error {
	ports, err := configuredPorts(c.o)
	if err != nil {
		return err
	}
	i, err := lan.FindInterface(c.o.lan.iface)
	if err != nil {
		return err
	}
	var own []netip.Addr
	for _, a := range i.All {
		own = append(own, a.Addr())
	}
	var errs []error
	for _, p := range ports {
		at := own
		if p.What != "DNS" { // which others have for this machine alone, at 127.0.0.53 for instance
			at = nil
		}
		if by := lan.Holder(p.Proto, p.Port, at...); by != "" && !c.isServer(by) {
			errs = append(errs, fmt.Errorf("%s has port %v, which %s needs: end it, or choose another port or leave that service out", by, p, p.What))
		}
	}
	return errors.Join(errs...)
}

func (c *setupCommand) userStep() setup.Step {
	name := c.userName()
	do := func(program string, args ...string) func(context.Context) error {
		return func(ctx context.Context) error {
			if out, err := exec.CommandContext(ctx, program, append(args, name)...).CombinedOutput(); err != nil {
				return fmt.Errorf("%s: %w: %s", program, err, strings.TrimSpace(string(out)))
			}
			return nil
		}
	}
	return setup.Step{
		Name: "the user",
		Plan: func(context.Context) (string, error) {
			var unknown user.UnknownUserError
			_, err := user.Lookup(name)
			if errors.As(err, &unknown) {
				return "make the user " + name, nil
			}
			return "", err
		},
		Do:   do("useradd", "--system", "--user-group", "--no-create-home", "--home-dir", "/nonexistent", "--shell", "/usr/sbin/nologin"),
		Undo: do("userdel"),
	}
}

// dataStep makes the data folder with the token and the server's keys, and gives
// it to the user.
func (c *setupCommand) dataStep() setup.Step {
	data, derr := dataFolder(c.o)
	var made []string // paths that were not there before
	whole := []string{"store", "token", "online.key", filepath.Base(setup.SettingsKeyIn(""))}
	return setup.Step{
		Name: "the data folder",
		Plan: func(context.Context) (string, error) {
			if derr != nil {
				return "", derr
			}
			for _, n := range whole {
				if n == "token" && c.o.tokenFile != "" {
					continue
				}
				if _, err := os.Stat(filepath.Join(data, n)); errors.Is(err, fs.ErrNotExist) {
					return "make the data folder " + data + " with its keys and token, for " + c.userName(), nil
				} else if err != nil {
					return "", err
				}
			}
			uid, _, err := owner(data)
			if u, uerr := user.Lookup(c.userName()); uerr != nil || u.Uid != strconv.Itoa(uid) {
				return "give the data folder " + data + " to " + c.userName(), err
			}
			return "", err
		},
		Do: func(context.Context) error {
			for _, p := range append([]string{data}, joined(data, append(slices.Clone(whole), "tmp", "boots"))...) {
				if _, err := os.Lstat(p); errors.Is(err, fs.ErrNotExist) {
					made = append(made, p)
				}
			}
			passphrase, err := setup.ReadPassphrase(c.o.passphraseFile)
			if err != nil {
				return err
			}
			f, err := setup.Open(data, setup.Source{File: c.o.tokenFile}, passphrase)
			if err == nil {
				err = f.Close()
			}
			if err == nil {
				var u *lan.User
				if u, err = lan.FindUser(c.userName()); err == nil {
					err = lan.Own(data, u)
				}
			}
			if err != nil {
				return errors.Join(err, removeAll(made))
			}
			return nil
		},
		Undo: func(context.Context) error { return removeAll(made) },
	}
}

func joined(dir string, names []string) []string {
	out := make([]string, 0, len(names))
	for _, n := range names {
		out = append(out, filepath.Join(dir, n))
	}
	return out
}

func removeAll(paths []string) error {
	var errs []error
	for _, p := range paths {
		errs = append(errs, os.RemoveAll(p))
	}
	return errors.Join(errs...)
}

func (c *setupCommand) firewallStep(ctx context.Context) (setup.Step, []string, error) {
	allow := slices.Clone(c.allow)
	if !c.answers.Changed("allow") && listens(ctx, 22) {
		allow = []string{"22/tcp"}
	}
	if c.dhcpServer != "" {
		allow = append(allow, "67/udp")
	}
	all, err := lan.Listeners()
	if err != nil {
		return setup.Step{}, nil, err
	}
	// dnsmasq tells machines that it resolves names for them.
	if c.dhcpServer == string(configure.Dnsmasq) && slices.Contains(all, lan.Listener{Proto: "udp", Port: 53}) {
		allow = append(allow, "53/udp", "53/tcp")
	}
	text, err := nftablesText(c.o, allow, nil)
	if err != nil {
		return setup.Step{}, nil, err
	}
	warnings, err := c.closed(all, allow)
	if err != nil {
		return setup.Step{}, nil, err
	}
	in := &configure.Install{
		File: configure.NftablesFile, Mode: 0o644, Check: configure.NftablesCheck,
		Reload: whereThere(configure.NftablesFile, configure.Shell("nft -f "+configure.NftablesFile), "nft delete table inet inetboot"),
	}
	return installStep("firewall rules", "write "+configure.NftablesFile+" and load these firewall rules", in, text), warnings, nil
}

// closed says which programs cannot be reached from the LAN any more.
func (c *setupCommand) closed(all []lan.Listener, allow []string) (warnings []string, err error) {
	ports, err := configuredPorts(c.o)
	if err != nil {
		return nil, err
	}
	for _, l := range all {
		p := configure.Port{Proto: l.Proto, Port: l.Port}
		if slices.Contains(allow, p.String()) || slices.ContainsFunc(ports, func(o configure.Port) bool { return o.Proto == p.Proto && o.Port == p.Port }) || p.String() == "68/udp" {
			continue
		}
		by := lan.Holder(p.Proto, p.Port)
		if by == "" {
			by = "the kernel or a program in another namespace"
		} else if c.isServer(by) {
			continue // it is started anew with other options
		}
		warnings = append(warnings, fmt.Sprintf("the firewall rules close %v on %s, at which %s listens: --allow %v leaves it open", p, c.o.lan.iface, by, p))
	}
	return warnings, nil
}

func (c *setupCommand) dhcpStep(ctx context.Context) (setup.Step, []string, error) {
	format := configure.Format(c.dhcpServer)
	cc := &configureCommand{o: c.o, out: c.out}
	site, warnings, err := cc.site(ctx, "")
	if err != nil {
		return setup.Step{}, nil, err
	}
	tmpl, err := configure.OpenTemplate(format, "", nil)
	if err != nil {
		return setup.Step{}, nil, err
	}
	conf, err := configure.Render(tmpl, *site)
	if err != nil {
		return setup.Step{}, nil, err
	}
	in := &configure.Install{File: cmp.Or(c.dhcpFile, configure.DefaultFile(format)), Mode: 0o644, Check: configure.CheckCommand(format)}
	what := "write " + in.File
	if service := configure.FindService(ctx, format); service.Command != "" {
		in.Reload = service.Reload
		what += "; " + service.Command
	} else {
		warnings = append(warnings, "no unit of "+c.dhcpServer+" runs, so nothing reads "+in.File+" yet")
	}
	return installStep("the DHCP server", what, in, conf.Text), append(warnings, conf.Warnings...), nil
}
