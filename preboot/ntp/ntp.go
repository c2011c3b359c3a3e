// Package ntp asks time servers what time it is (SNTP, RFC 4330), once: a
// machine that is about to start another kernel has no clock to discipline.
package ntp

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"time"
)

// ErrAnswer is wrapped when a server's answer cannot be used.
var ErrAnswer = errors.New("unusable answer of the time server")

const (
	port       = "123"
	packetSize = 48
	tries      = 3
	timeout    = 2 * time.Second // for one answer

	// Seconds from 1900 to 1970. Times without the highest bit are those of
	// the era that begins in 2036 (RFC 4330 section 3).
	epoch = 2208988800
	era   = 1 << 32
)

// Query returns the time of a server, which is a name or an address. It asks
// three times.
func Query(ctx context.Context, server string, resolver *net.Resolver) (time.Time, error) {
	return query(ctx, net.JoinHostPort(server, port), resolver)
}

func query(ctx context.Context, addr string, resolver *net.Resolver) (time.Time, error) {
	var last error
	for range tries {
		t, err := once(ctx, addr, resolver)
		if err == nil {
			return t, nil
		}
		if last = err; ctx.Err() != nil {
			break
		}
	}
	return time.Time{}, fmt.Errorf("ask %s for the time: %w", addr, last)
}

func once(ctx context.Context, addr string, resolver *net.Resolver) (time.Time, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	d := net.Dialer{Resolver: resolver}
	conn, err := d.DialContext(ctx, "udp", addr)
	if err != nil {
		return time.Time{}, err
	}
	defer conn.Close()
	if end, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(end); err != nil {
			return time.Time{}, err
		}
	}
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	// The time that is sent is a number that only the server can know.
	request := make([]byte, packetSize)
	request[0] = 4<<3 | 3 // version 4, client
	if _, err := rand.Read(request[40:]); err != nil {
		return time.Time{}, err
	}
	sent := time.Now()
	if _, err := conn.Write(request); err != nil {
		return time.Time{}, err
	}
	buf := make([]byte, 512)
	n, err := conn.Read(buf)
	if err != nil {
		return time.Time{}, err
	}
	t, err := parse(buf[:n], [8]byte(request[40:]))
	if err != nil {
		return time.Time{}, err
	}
	return t.Add(time.Since(sent) / 2), nil
}

// parse reads a server's answer to a request with the given transmit
// timestamp.
func parse(b []byte, origin [8]byte) (time.Time, error) {
	if len(b) < packetSize {
		return time.Time{}, fmt.Errorf("%w: %d bytes", ErrAnswer, len(b))
	}
	if mode, stratum := b[0]&7, b[1]; mode != 4 || stratum == 0 || stratum > 15 || b[0]>>6 == 3 {
		return time.Time{}, fmt.Errorf("%w: it has no time itself (mode %d, stratum %d, leap indicator %d)", ErrAnswer, mode, stratum, b[0]>>6)
	}
	if [8]byte(b[24:]) != origin {
		return time.Time{}, fmt.Errorf("%w: it answers another request", ErrAnswer)
	}
	seconds, fraction := int64(binary.BigEndian.Uint32(b[40:])), int64(binary.BigEndian.Uint32(b[44:]))
	if seconds == 0 {
		return time.Time{}, fmt.Errorf("%w: it says no time", ErrAnswer)
	}
	if seconds < 1<<31 {
		seconds += era
	}
	return time.Unix(seconds-epoch, fraction*int64(time.Second)>>32), nil
}
