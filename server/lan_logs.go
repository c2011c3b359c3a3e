package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"path/filepath"
	"strconv"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/inetboot/inetboot/server/lan"
	"github.com/inetboot/inetboot/server/lan/logs"
)

// syslogPort is where syslog is taken, over UDP and TCP, and syslogTCPPort
// where it is over TCP, too (RFC 6587 section 3.2 and the registry of IANA).
const (
	syslogPort    = 514
	syslogTCPPort = 601
)

// logsOptions are the options of the syslog receiver.
type logsOptions struct {
	off     bool
	port    int
	size    int64
	clients int
	rate    float64
}

func (o *logsOptions) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.BoolVar(&o.off, "no-syslog", false, "with --lan: take no logs of machines")
	f.IntVar(&o.port, "syslog-port", syslogPort, "port of syslog, UDP and TCP; with the default, TCP port 601, too")
	f.Int64Var(&o.size, "log-size", 4<<20, "largest log of one machine, in bytes; the older half goes at once")
	f.IntVar(&o.clients, "log-clients", 1000, "logs of how many machines are kept; one that has been silent for a week makes room")
	f.Float64Var(&o.rate, "log-rate", 200, "lines of one machine in a second, in the long run")
}

// logsFolder is where the logs of machines are.
func logsFolder(data string) string { return filepath.Join(data, "logs") }

// newLogs makes the syslog receiver.
func newLogs(_ context.Context, o *options, p *lanParts) (lan.Service, error) {
	l := &o.lan.logs
	switch {
	case l.off:
		return nil, nil
	case l.port < 1 || l.port > 65535:
		return nil, fmt.Errorf("--syslog-port %d: want from 1 to 65535", l.port)
	case l.size < 64<<10 || l.clients < 1 || l.rate < 1:
		return nil, errors.New("--log-size is at least 65536, --log-clients and --log-rate at least 1")
	}
	c := logs.Options{Dir: logsFolder(p.data), Limits: logs.Limits{Size: l.size, Clients: l.clients, Rate: l.rate}, Log: p.log}
	for _, a := range p.iface.All {
		if a.Addr().IsLinkLocalUnicast() {
			continue
		}
		at := netip.AddrPortFrom(a.Addr(), uint16(l.port))
		c.UDP, c.TCP = append(c.UDP, at), append(c.TCP, at)
		if l.port == syslogPort {
			c.TCP = append(c.TCP, netip.AddrPortFrom(a.Addr(), syslogTCPPort))
		}
	}
	return logs.New(c), nil
}

func newLogsCommand(o *options, stdout io.Writer) *cobra.Command {
	var boot string
	var follow, asJSON, list bool
	cmd := &cobra.Command{
		Use:   "logs CLIENT",
		Short: "Show what a machine has logged by syslog",
		Long: `Logs shows a machine's newest boot, or another one: from preboot's first line to
the last line of the system that it started. CLIENT is its MAC address, its IP
address, or its host name as its newest messages have it.`,
		Example: `  server logs 52:54:00:12:34:56
  server logs lab7 --follow
  server logs lab7 --boots             # which boots there are
  server logs lab7 --boot 2            # the second one of these
  server logs lab7 --boot -2           # the one before the newest
  server logs 10.0.0.7 --boot all --json | jq 'select(.severity < 4)'`,
		Args: cobra.ExactArgs(1),
	}
	f := cmd.Flags()
	f.StringVar(&boot, "boot", "last", "which boot: last, all, a number as --boots shows it, or a negative one, counted from the newest, which is -1")
	f.BoolVarP(&follow, "follow", "f", false, "go on with what comes")
	f.BoolVar(&asJSON, "json", false, "a JSON object for each line")
	f.BoolVar(&list, "boots", false, "list the boots instead")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		data, err := dataFolder(o)
		if err != nil {
			return err
		}
		dir := logsFolder(data)
		name, err := logs.Find(dir, args[0])
		if err != nil {
			return err
		}
		if list {
			return listBoots(stdout, dir, name, asJSON)
		}
		s := logs.Selection{Follow: follow}
		if s.Boot, err = parseBoot(boot); err != nil {
			return err
		}
		return logs.Show(cmd.Context(), dir, name, s, func(r *logs.Record, line []byte) error {
			if asJSON {
				_, err := fmt.Fprintf(stdout, "%s\n", line)
				return err
			}
			_, err := fmt.Fprintln(stdout, r)
			return err
		})
	}
	return cmd
}

// parseBoot reads what --boot says; 0 is all boots.
func parseBoot(s string) (int, error) {
	switch s {
	case "last":
		return -1, nil
	case "all":
		return 0, nil
	}
	n, err := strconv.Atoi(s)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("--boot %s: want last, all, or a number other than 0", s)
	}
	return n, nil
}

func listBoots(out io.Writer, dir, name string, asJSON bool) error {
	all, err := logs.Boots(dir, name)
	if err != nil {
		return err
	}
	if asJSON {
		return json.NewEncoder(out).Encode(all)
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "BOOT\tFIRST\tLAST\tLINES\tID")
	for _, b := range all {
		const form = "2006-01-02 15:04:05"
		fmt.Fprintf(w, "%d\t%s\t%s\t%d\t%s\n", b.Number, b.First.Local().Format(form), b.Last.Local().Format(form), b.Lines, b.ID)
	}
	return w.Flush()
}
