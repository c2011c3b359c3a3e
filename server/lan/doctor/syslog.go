package doctor

import (
	"context"
	"crypto/rand"
	"fmt"
	"net"
	"net/netip"
	"time"
)

// syslog sends a line by UDP and one by TCP, and looks for them.
func (d *doctor) syslog(ctx context.Context) {
	if d.o.Syslog == 0 {
		d.add(Finding{StageSyslog, "all", Skipped, "", "not served", ""})
		return
	}
	for _, network := range []string{"udp", "tcp"} {
		mark := "doctor-" + rand.Text()
		f := Finding{StageSyslog, network, OK, fmt.Sprintf("a line to %v, %s port %d", d.o.Server, network, d.o.Syslog), "", ""}
		err := func() error {
			dialer := net.Dialer{Timeout: d.o.Wait}
			c, err := dialer.DialContext(ctx, network, netip.AddrPortFrom(d.o.Server, uint16(d.o.Syslog)).String())
			if err != nil {
				return err
			}
			defer c.Close()
			// RFC 5424, over TCP a line for each message.
			if _, err := fmt.Fprintf(c, "<14>1 %s - doctor - - - %s\n", time.Now().UTC().Format(time.RFC3339), mark); err != nil {
				return err
			}
			if network == "udp" { // a refusal comes back in a moment
				if err := c.SetReadDeadline(time.Now().Add(300 * time.Millisecond)); err != nil {
					return err
				}
				if _, err := c.Read(make([]byte, 1)); err != nil {
					if t, ok := err.(net.Error); !ok || !t.Timeout() {
						return err
					}
				}
			}
			return nil
		}()
		if err != nil {
			f.Status = Failed
			f.Got, f.Next = d.why(err, network, d.o.Syslog, "syslog", "without --no-syslog")
			d.add(f)
			continue
		}
		if d.o.FindLog == nil {
			f.Got = "sent; whether it is kept can be seen on the server only"
			d.add(f)
			continue
		}
		found, err := d.findLog(ctx, mark)
		switch {
		case err != nil:
			f.Status, f.Got, f.Next = Failed, err.Error(), "look at the data folder (--data), and run it as root"
		case !found:
			f.Status, f.Got = Failed, "the line is not in the server's logs"
			f.Next = fmt.Sprintf("a firewall drops %s port %d (nft list ruleset), or the log of this machine is full: look into the server's log", network, d.o.Syslog)
		default:
			f.Got = "the line is in the server's logs"
		}
		d.add(f)
	}
}

func (d *doctor) findLog(ctx context.Context, mark string) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, d.o.Wait)
	defer cancel()
	for {
		found, err := d.o.FindLog(ctx, mark)
		if found || err != nil {
			return found, err
		}
		select {
		case <-ctx.Done():
			return false, nil
		case <-time.After(100 * time.Millisecond):
		}
	}
}
