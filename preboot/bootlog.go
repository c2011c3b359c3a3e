package main

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/inetboot/inetboot/internal/mirror"
	"github.com/inetboot/inetboot/internal/syslog"
	"github.com/inetboot/inetboot/preboot/network"
)

// logPatience is how long lines may take to the syslog receiver before the
// network goes.
const logPatience = 250 * time.Millisecond

// log sends a line to the syslog receiver once there is a network, and keeps it
// for the server.
func (s *session) log(line string) {
	s.reports.lines.Add(time.Now(), line)
	s.syslog.Log(syslog.Message{Time: time.Now(), Facility: syslog.Daemon, Severity: severity(line), Text: line})
}

// severity of a line for people.
func severity(line string) int {
	for _, p := range []string{"failed: ", "refused: ", "fault: "} {
		if strings.HasPrefix(line, p) {
			return syslog.Error
		}
	}
	return syslog.Info
}

// startLog begins to send over the network of c.
func (s *session) startLog(ctx context.Context, c *network.Config, servers []netip.Addr) {
	r := s.receiver(c)
	if r == (syslog.Receiver{}) {
		return
	}
	s.report(fmt.Sprintf("the log goes to %s", r))
	d := &net.Dialer{Resolver: mirror.Resolver(servers)}
	// It goes on after the attempt to reach a store.
	s.syslog.Start(context.WithoutCancel(ctx), r, cmp.Or(c.Hostname, c.MAC), d.DialContext)
}

// receiver returns where lines go: as was said, or as the network says.
func (s *session) receiver(c *network.Config) syslog.Receiver {
	if s.set.Syslog != nil {
		return *s.set.Syslog
	}
	return c.Syslog
}

// flushLog gives what was logged a moment to get to the receiver.
func (s *session) flushLog() {
	ctx, cancel := context.WithTimeout(context.Background(), logPatience)
	defer cancel()
	s.syslog.Flush(ctx)
}

// text says when the stages of the boot were reached, in seconds since the
// first one.
func (t *timeline) text() string {
	var b strings.Builder
	b.WriteString("timeline:")
	stages := t.stages()
	for _, st := range stages {
		fmt.Fprintf(&b, " %s=%.3f", st.Name, float64(st.Unix-stages[0].Unix)/1000)
	}
	return b.String()
}
