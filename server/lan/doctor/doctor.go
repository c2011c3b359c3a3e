// Package doctor goes the way of a machine that boots, DHCP, TFTP, HTTP, kernel,
// root, syslog, DNS, and says at which stage it ends and why.
package doctor

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"time"
)

// Stages, in their order.
const (
	StageDHCP   = "dhcp"
	StageTFTP   = "tftp"
	StageHTTP   = "http"
	StageKernel = "kernel"
	StageRoot   = "root"
	StageSyslog = "syslog"
	StageDNS    = "dns"
)

// Stages are all of them.
func Stages() []string {
	return []string{StageDHCP, StageTFTP, StageHTTP, StageKernel, StageRoot, StageSyslog, StageDNS}
}

// Status is how a check ended.
type Status string

// The statuses.
const (
	OK      Status = "ok"
	Failed  Status = "failed"
	Warning Status = "warning"
	Skipped Status = "skipped"
)

// Finding is one check: what was sent, what came back, and what to do next.
type Finding struct {
	Stage  string `json:"stage"`
	What   string `json:"what"` // such as the kind of firmware
	Status Status `json:"status"`
	Sent   string `json:"sent,omitempty"`
	Got    string `json:"got,omitempty"`
	Next   string `json:"next,omitempty"`
}

// Options say where to go.
type Options struct {
	Interface string           // of the LAN
	Server    netip.Addr       // the boot server
	Local     bool             // it is this machine
	MAC       net.HardwareAddr // as which machine to ask
	URL       string           // of the server's HTTP, without a slash at the end
	TFTPPort  int
	Syslog    int // port; 0: do not check
	DNS       int // port; 0: do not check
	NFS, NBD  int // ports; 0: not served
	DHCPPort  int
	// FindLog looks for a text in the logs that the server has received; nil where
	// they are not at hand.
	FindLog func(ctx context.Context, text string) (bool, error)
	// Holder says which program on this machine has a port, "" for none.
	Holder func(network string, port int, at ...netip.Addr) string
	Wait   time.Duration // for answers: offers are collected for so long, as dhcpd pings an address for a second first; 0: DefaultWait
	Tell   func(Finding) // called for each finding as it comes; may be nil
}

// doctor is a way that is being gone.
type doctor struct {
	o     Options
	list  []Finding
	boots []boot // what DHCP said
}

// boot is a boot file that a kind of firmware was told.
type boot struct {
	kind string
	file string     // name or URL
	from netip.Addr // TFTP server
}

// DefaultWait is how long answers are waited for.
const DefaultWait = 3 * time.Second

const fileTime = time.Minute // for a whole file

// Run checks all stages and returns what it found. Later stages are checked
// even if earlier ones failed, as far as they do not need them.
func Run(ctx context.Context, o Options) ([]Finding, error) {
	if o.Wait <= 0 {
		o.Wait = DefaultWait
	}
	d := &doctor{o: o}
	for _, stage := range []func(context.Context){d.dhcp, d.tftp, d.http, d.kernel, d.syslog, d.dns} {
		stage(ctx)
		if err := ctx.Err(); err != nil {
			return d.list, err
		}
	}
	return d.list, nil
}

// First returns the first stage at which something failed, "" for none.
func First(list []Finding) string {
	for _, s := range Stages() {
		for _, f := range list {
			if f.Stage == s && f.Status == Failed {
				return s
			}
		}
	}
	return ""
}

func (d *doctor) add(f Finding) {
	d.list = append(d.list, f)
	if d.o.Tell != nil {
		d.o.Tell(f)
	}
}

// why says what an error of the network means, and what to do.
func (d *doctor) why(err error, network string, port int, service, option string) (got, next string) {
	var timeout net.Error
	holder := ""
	if d.o.Local && d.o.Holder != nil {
		holder = d.o.Holder(network, port)
	}
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		got = "refused: nobody listens at " + fmt.Sprintf("%s port %d", network, port)
		next = "start the server with " + service + " (" + option + ")"
		if holder != "" {
			got = fmt.Sprintf("refused, though %s has %s port %d", holder, network, port)
			next = "a firewall refuses it, or the service listens at another address: nft list ruleset; server configure nftables opens what is configured"
		}
	case errors.As(err, &timeout) && timeout.Timeout(), errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded):
		got = "no answer"
		next = fmt.Sprintf("a firewall drops %s port %d, or the machine is not there: nft list ruleset; server configure nftables opens what is configured", network, port)
		if d.o.Local && holder == "" {
			next = "nobody listens: start the server with " + service + " (" + option + ")"
		}
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		got, next = err.Error(), "that machine is not in this network: look at the address, and at who told it"
	default:
		got, next = err.Error(), "look into the server's log"
	}
	return got, next
}

// host returns the host of a URL without its port, "" for what is none.
func host(url string) string {
	_, rest, ok := strings.Cut(url, "://")
	if !ok {
		return ""
	}
	rest, _, _ = strings.Cut(rest, "/")
	if h, _, err := net.SplitHostPort(rest); err == nil {
		return h
	}
	return rest
}
