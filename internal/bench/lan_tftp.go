package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/inetboot/inetboot/internal/udpline"
)

const (
	tftpBlock  = 1428 // bytes: what fits into a packet on Ethernet
	tftpWindow = 16
	tftpRTT    = 10 * time.Millisecond
	tftpPort   = 69
	hpaPort    = 6969 // of the peer, beside ours
)

// lanTFTP reads a file from our server and from tftpd-hpa, by the same client,
// over the loopback interface; then through a delay, where ours is asked for
// windows, which tftpd-hpa does not have.
func (b *bench) lanTFTP(ctx context.Context) (err error) {
	l, err := b.onLAN(ctx)
	if err != nil {
		return err
	}
	ours, err := l.ours(ctx, "--dhcp", "off")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, ours.stop()) }()
	peer, err := l.start(l.server, "in.tftpd", "--foreground", "--address", fmt.Sprintf("%s:%d", lanServer, hpaPort), "--user", "root", "--secure", l.media)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, peer.stop()) }()

	addr := netip.MustParseAddr(lanServer)
	oursAt, peerAt := netip.AddrPortFrom(addr, tftpPort), netip.AddrPortFrom(addr, hpaPort)
	get := func(to netip.AddrPort, window int, file string, want []byte) func(context.Context) (float64, error) {
		return func(ctx context.Context) (float64, error) { return l.tftp(ctx, to, window, file, want) }
	}
	for _, window := range []int{1, tftpWindow} {
		what := fmt.Sprintf("TFTP on loopback, blksize %d, windowsize %d", tftpBlock, window)
		best, err := b.compete(ctx, what, lanRounds, contender{"ours", get(oursAt, window, largeFile, l.large)}, contender{"tftpd-hpa", get(peerAt, 1, largeFile, l.large)})
		if err != nil {
			return err
		}
		r := speed(what, "MB/s", best[0], best[1], "tftpd-hpa")
		if window == 1 {
			r = r.wantRatio(1)
		} else {
			r = r.noted("tftpd-hpa has no windowsize")
		}
		b.report(r)
	}

	var delayed [2]netip.AddrPort
	for i, to := range []netip.AddrPort{oursAt, peerAt} {
		line, err := udpline.Start(to, udpline.Options{Delay: tftpRTT / 2, Listen: func() (c *net.UDPConn, err error) {
			err = inside(l.server, func() error {
				c, err = net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
				return err
			})
			return c, err
		}})
		if err != nil {
			return err
		}
		defer line.Close()
		delayed[i] = line.Addr()
	}
	what := fmt.Sprintf("TFTP at %v, blksize %d, windowsize %d", tftpRTT, tftpBlock, tftpWindow)
	best, err := b.compete(ctx, what, 2, contender{"ours", get(delayed[0], tftpWindow, smallFile, l.small)}, contender{"tftpd-hpa", get(delayed[1], 1, smallFile, l.small)})
	if err != nil {
		return err
	}
	b.report(speed(what, "MB/s", best[0], best[1], "tftpd-hpa").wantRatio(4).noted("tftpd-hpa has no windowsize"))
	return nil
}

// tftp reads a file from inside of the server's namespace, compares it, and
// returns MB/s.
func (l *lanBed) tftp(ctx context.Context, server netip.AddrPort, window int, file string, want []byte) (float64, error) {
	var got bytes.Buffer
	got.Grow(len(want) + tftpBlock)
	var took time.Duration
	err := inside(l.server, func() error {
		start := time.Now()
		agreed, err := tftpGet(ctx, netip.Addr{}, server, file, tftpBlock, window, &got)
		took = time.Since(start)
		if err == nil && agreed != window {
			err = fmt.Errorf("a windowsize of %d; want %d", agreed, window)
		}
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("TFTP from %v: %w", server, err)
	}
	if !bytes.Equal(got.Bytes(), want) {
		return 0, fmt.Errorf("TFTP from %v: %d bytes came, which are not those of the file with %d", server, got.Len(), len(want))
	}
	return float64(got.Len()) / 1e6 / took.Seconds(), nil
}
