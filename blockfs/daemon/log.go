package daemon

import (
	"cmp"
	"context"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/inetboot/inetboot/blockfs/kmsg"
	"github.com/inetboot/inetboot/internal/bootlog"
	"github.com/inetboot/inetboot/internal/handoff"
	"github.com/inetboot/inetboot/internal/mirror"
	"github.com/inetboot/inetboot/internal/syslog"
)

const (
	// maxBootLines bounds the lines of a boot that are sent and are not this
	// system's own.
	maxBootLines = 4096
	// linePause is how long to wait after each line, so that the lines from
	// before the network find room in the queue of what is to be sent.
	linePause = 2 * time.Millisecond
	// lastWords is how long lines may take when the root is unmounted.
	lastWords = 250 * time.Millisecond
	// failureTime is how long a mirror may take for the log of a boot that failed.
	failureTime = 10 * time.Second
)

// remoteLog sends the kernel's log to the receiver of the handoff: until the
// boot is over all of it, because nothing else on the machine does, and from
// then on this system's own lines, which say what is wrong with the root.
type remoteLog struct {
	sender *syslog.Sender   // nil: there is no receiver
	lines  bootlog.Recorder // until the boot is over, for the server, should it fail
	over   atomic.Bool      // the boot is over
}

// openLog starts to send, if the handoff names a receiver; it does not wait
// for anything. It returns nil for a boot without a network.
func openLog(ctx context.Context, h *handoff.Handoff, link int) *remoteLog {
	if h.Offline {
		return nil
	}
	l := &remoteLog{}
	r, err := syslog.ParseURL(h.Syslog)
	if err != nil {
		return l // there is none: handoff.Parse has checked it
	}
	l.sender = syslog.New(h.BootID)
	d := &net.Dialer{Resolver: mirror.Resolver(resolvers(h.Network, link))}
	l.sender.Start(ctx, r, cmp.Or(h.Network.Hostname, h.Network.MAC), d.DialContext)
	return l
}

// bootOver ends the sending of what others log.
func (l *remoteLog) bootOver() {
	if l != nil {
		l.over.Store(true)
	}
}

// follow sends what r, /dev/kmsg, has and gets, until it is closed or ctx ends.
func (l *remoteLog) follow(ctx context.Context, r io.Reader) error {
	lines := 0
	return kmsg.Each(r, func(rec kmsg.Record) bool {
		m := message(rec)
		if m.App != syslog.App {
			if lines++; lines > maxBootLines || l.over.Load() {
				return ctx.Err() == nil
			}
		}
		if l.over.Load() {
			if l.sender == nil {
				return false
			}
		} else {
			l.lines.Add(m.Time, m.App+": "+m.Text)
		}
		l.sender.Log(m)
		select {
		case <-time.After(linePause):
			return true
		case <-ctx.Done():
			return false
		}
	})
}

// tellFailure sends the log of a boot that init has given up to the first
// mirror that takes it.
func (d *daemon) tellFailure(ctx context.Context, failure string) {
	if d.remote == nil || d.remote.over.Load() {
		return
	}
	h := d.o.Handoff
	rep := &bootlog.Report{BootID: h.BootID, Client: h.Network.MAC, Part: bootlog.Target, Failure: bootlog.Clip(failure), Entry: h.Entry, Stages: d.root.Timeline(), Lines: d.remote.lines.Lines()}
	for _, u := range d.client.URLs() {
		one, cancel := context.WithTimeout(ctx, failureTime)
		err := bootlog.Post(one, d.client.HTTP(), u, rep)
		cancel()
		if err == nil || ctx.Err() != nil {
			return
		}
		d.log.Debug("the log is not taken", "by", u, "error", err)
	}
}

// close sends what is left, if that is quick.
func (l *remoteLog) close() {
	ctx, cancel := context.WithTimeout(context.Background(), lastWords)
	defer cancel()
	l.sender.Flush(ctx)
	l.sender.Close()
}

// message turns a record into a line. Programs that write to the kernel's log
// begin with their name, "systemd[1]: ".
func message(r kmsg.Record) syslog.Message {
	m := syslog.Message{Time: time.Now().Add(-sinceStart() + r.Age), Facility: r.Facility, Severity: r.Severity, App: "kernel", Text: r.Text}
	if r.Facility == syslog.Kernel {
		return m
	}
	if app, text, ok := strings.Cut(r.Text, ": "); ok {
		app, _, _ = strings.Cut(app, "[")
		if !strings.ContainsAny(app, " \t") && app != "" {
			m.App, m.Text = app, text
		}
	}
	return m
}

// sinceStart is how long the machine has been running, by the clock of the
// kernel's log.
func sinceStart() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &t); err != nil {
		return 0
	}
	return time.Duration(t.Nano())
}
