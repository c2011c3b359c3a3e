package main

import (
	"context"
	"crypto/x509"
	"errors"
	"net/netip"
	"strconv"
	"time"

	"github.com/inetboot/inetboot/catalog"
	"github.com/inetboot/inetboot/internal/mirror"
	"github.com/inetboot/inetboot/preboot/network"
	"github.com/inetboot/inetboot/preboot/ntp"
	"github.com/inetboot/inetboot/preboot/system"
)

// clockTolerance is how wrong a clock may be without being set.
const clockTolerance = time.Minute

// aboutTime tells whether err may be the clock's fault: a catalog or a
// certificate has expired, or is not valid yet.
func aboutTime(err error) bool {
	var cert x509.CertificateInvalidError
	return errors.Is(err, catalog.ErrExpired) || errors.As(err, &cert) && cert.Reason == x509.Expired
}

// setClock asks the time servers of the site and of the network what time it
// is, and sets the clock if that is something else. It tells whether it did.
//
// Stores are not asked, though every web server says its time: a mirror is
// not trusted, and one that could set the clock back could pass off an old
// catalog as valid.
func (s *session) setClock(ctx context.Context, c *network.Config, servers []netip.Addr) bool {
	was := time.Now()
	if len(c.NTP) == 0 {
		s.report("this machine's clock says " + stamp(was) + "; if that is wrong, set it in the firmware, or name a time server: inetboot.ntp=..., or DHCP option 42")
		return false
	}
	resolver := mirror.Resolver(servers)
	for _, server := range c.NTP {
		t, err := ntp.Query(ctx, server, resolver)
		if ctx.Err() != nil {
			return false
		}
		if err != nil {
			s.report("the clock says " + stamp(was) + ", which may be wrong: " + err.Error())
			continue
		}
		if sec, err := strconv.ParseInt(builtAt, 10, 64); err == nil && t.Unix() < sec {
			s.report("time server " + server + " says " + stamp(t) + ", before this medium was made: it is not believed")
			continue
		}
		if d := time.Since(t).Abs(); d <= clockTolerance {
			s.report("the clock says " + stamp(t) + ", and so does time server " + server)
			return false
		}
		if err := system.SetClock(t); err != nil {
			s.report(err.Error())
			return false
		}
		s.say("the clock said %s, time server %s says %s: it is set", stamp(was), server, stamp(t))
		return true
	}
	return false
}
