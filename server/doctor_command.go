package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/inetboot/inetboot/server/lan"
	"github.com/inetboot/inetboot/server/lan/doctor"
)

// exitStage is the status if the first stage, DHCP, fails; the next ones have
// the next numbers.
const exitStage = 10

// doctorMAC is the machine as which the doctor asks: one address, so that it is
// seen as one machine (local by its second bit).
const doctorMAC = "02:64:6f:63:74:72"

func newDoctorCommand(o *options, stdout io.Writer) *cobra.Command {
	var iface, server, mac string
	var asJSON bool
	var wait time.Duration
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Go the way of a machine that boots, and say at which stage it ends and why",
		Long: `Go the way of a machine that boots: DHCP as each kind of firmware, boot files by TFTP and HTTP, the catalog and a
kernel, a root over NFS and NBD if they are served, syslog, and with --dns names. It runs on the server, or on another machine of the
LAN, where a firewall of the server is seen, too. Nothing is changed: no lease is taken.

The status is 0 if all is well, and says by its number which stage failed first: ` + fmt.Sprint(exitStage) + ` and up for dhcp, tftp, http,
kernel, root, syslog, dns. It is 1 if it could not look.`,
		Example: `  server doctor --lan eth0
  server doctor --interface eth0 --server 192.168.1.2      # from another machine of the LAN
  server doctor --lan eth0 --mac 52:54:00:12:34:56         # as a machine that is known
  server doctor --lan eth0 --json | jq -r '.findings[] | select(.status == "failed") | .next'`,
		Args: cobra.NoArgs,
	}
	serverFlags(cmd, o)
	f := cmd.Flags()
	f.StringVar(&iface, "interface", "", "interface of the LAN (default that of --lan)")
	f.StringVar(&server, "server", "", "address of the boot server (default this machine's on the interface)")
	f.StringVar(&mac, "mac", doctorMAC, "MAC address of the machine as which to ask")
	f.BoolVar(&asJSON, "json", false, "print JSON")
	f.DurationVar(&wait, "wait", doctor.DefaultWait, "how long to wait for answers")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if iface == "" {
			iface = o.lan.iface
		}
		if iface == "" {
			return errors.New("which LAN? name its interface with --lan or --interface")
		}
		d, err := doctorOptions(cmd, o, iface, server, mac)
		if err != nil {
			return err
		}
		d.Wait = wait
		if !asJSON {
			d.Tell = func(f doctor.Finding) { tellFinding(stdout, f) }
		}
		list, err := doctor.Run(cmd.Context(), *d)
		if err != nil {
			return err
		}
		failed := doctor.First(list)
		if asJSON {
			e := json.NewEncoder(stdout)
			e.SetIndent("", " ")
			err = e.Encode(struct {
				Failed   string           `json:"failed,omitempty"` // the first stage that failed
				Findings []doctor.Finding `json:"findings"`
			}{failed, list})
		} else if failed == "" {
			_, err = fmt.Fprintln(stdout, "machines can boot")
		} else {
			_, err = fmt.Fprintln(stdout, "failed at:", failed)
		}
		if err == nil && failed != "" {
			return exitError{code: exitStage + slices.Index(doctor.Stages(), failed)}
		}
		return err
	}
	return cmd
}

func tellFinding(w io.Writer, f doctor.Finding) {
	fmt.Fprintf(w, "%-8s %-7s %s: %s\n", f.Status, f.Stage, f.What, f.Got)
	if f.Status == doctor.OK || f.Status == doctor.Skipped {
		return
	}
	if f.Sent != "" {
		fmt.Fprintln(w, "         sent:", f.Sent)
	}
	fmt.Fprintln(w, "         next:", f.Next)
}

func doctorOptions(cmd *cobra.Command, o *options, iface, server, mac string) (*doctor.Options, error) {
	d := &doctor.Options{
		Interface: iface, Holder: lan.Holder,
		TFTPPort: o.lan.boot.tftpPort, Syslog: o.lan.logs.port, DHCPPort: o.lan.dhcp.port,
	}
	i, err := lan.FindInterface(iface)
	if err != nil && server == "" {
		return nil, err
	}
	var own netip.Prefix
	if i != nil {
		own = i.IPv4
	}
	if d.Server, err = serverAddress(server, own); err != nil {
		return nil, err
	}
	d.Local = i != nil && slices.ContainsFunc(i.All, func(p netip.Prefix) bool { return p.Addr() == d.Server })
	if d.MAC, err = net.ParseMAC(mac); err != nil || len(d.MAC) != 6 {
		return nil, fmt.Errorf("--mac %q: want a MAC address of six bytes", mac)
	}
	if d.URL, err = httpURL(o, d.Server); err != nil {
		return nil, err
	}
	if o.lan.logs.off {
		d.Syslog = 0
	}
	if o.lan.dns.on {
		d.DNS = o.lan.dns.port
	}
	// What nobody said is looked for.
	for _, r := range []struct {
		flag string
		on   bool
		port int
		to   *int
	}{{"nfs", o.lan.roots.nfs, o.lan.roots.nfsPort, &d.NFS}, {"nbd", o.lan.roots.nbd, o.lan.roots.nbdPort, &d.NBD}} {
		on := r.on
		if !cmd.Flags().Changed(r.flag) {
			dialer := net.Dialer{Timeout: time.Second}
			if c, err := dialer.DialContext(cmd.Context(), "tcp", net.JoinHostPort(d.Server.String(), strconv.Itoa(r.port))); err == nil {
				on = c.Close() == nil
			}
		}
		if on {
			*r.to = r.port
		}
	}
	if d.Local {
		data, err := dataFolder(o)
		if err != nil {
			return nil, err
		}
		d.FindLog = func(_ context.Context, text string) (bool, error) { return inLogs(logsFolder(data), text) }
	}
	return d, nil
}

// inLogs looks for a text in what has come last.
func inLogs(dir, text string) (bool, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.log"))
	if err != nil {
		return false, err
	}
	if len(files) == 0 {
		if _, err := os.Stat(dir); err != nil {
			return false, err
		}
	}
	for _, name := range files {
		info, err := os.Stat(name)
		if err != nil || time.Since(info.ModTime()) > time.Minute {
			continue
		}
		f, err := os.Open(name)
		if err != nil {
			return false, err
		}
		b := make([]byte, min(info.Size(), 256<<10))
		n, _ := f.ReadAt(b, info.Size()-int64(len(b)))
		_ = f.Close()
		if bytes.Contains(b[:n], []byte(text)) {
			return true, nil
		}
	}
	return false, nil
}
