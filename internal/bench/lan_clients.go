package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/inetboot/inetboot/blockfs/read"
	"github.com/inetboot/inetboot/internal/debianroot"
	"github.com/inetboot/inetboot/internal/storepath"
)

const (
	startingClients = 100
	startingWindow  = 4          // blocks, as UEFI asks for
	startingBlocks  = 8 << 20    // bytes of root, as stored, that each reads
	startingRate    = 50_000_000 // bytes per second of the line to the clients
	startingQueue   = 1 << 20    // bytes that wait before the line; what comes then is lost
)

// lanClients has many machines start at the same moment, on a line that is too
// narrow for them: each gets an address, a boot file by TFTP, and the first
// blocks of its root by HTTP. What is ideal is that the line is never idle.
func (b *bench) lanClients(ctx context.Context) (err error) {
	l, err := b.onLAN(ctx)
	if err != nil {
		return err
	}
	// Every address that the server can give is one of the clients' side, so
	// that what a machine is given is what it is known by from then on.
	for i := range startingClients {
		if err := b.command(ctx, "ip", "-n", l.client, "address", "add", fmt.Sprintf("10.77.200.%d/16", i+1), "dev", "lan0"); err != nil {
			return err
		}
	}
	defer func() {
		err = errors.Join(err, b.command(context.WithoutCancel(ctx), "ip", "-n", l.client, "address", "flush", "dev", "lan0"),
			b.command(context.WithoutCancel(ctx), "ip", "-n", l.client, "address", "add", lanClient+lanPrefix, "dev", "lan0"))
	}()
	blocks, size, err := l.firstBlocks(ctx)
	if err != nil {
		return err
	}
	if err := b.command(ctx, "tc", "-n", l.server, "qdisc", "add", "dev", "lan0", "root", "tbf",
		"rate", fmt.Sprintf("%dbit", 8*startingRate), "burst", "128k", "limit", fmt.Sprint(startingQueue)); err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, b.command(context.WithoutCancel(ctx), "tc", "-n", l.server, "qdisc", "del", "dev", "lan0", "root"))
	}()
	p, err := l.ours(ctx, "--dhcp", "full", "--dhcp-range", fmt.Sprintf("10.77.200.1-10.77.200.%d", startingClients), "--dhcp-probe", "0",
		"--database", filepath.Join(b.dir, "starting.db"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.stop()) }()

	all := startingClients * (smallSize + size)
	b.say("%d clients start at once: %.0f MB through %d Mbit/s", startingClients, float64(all)/1e6, startingRate*8/1_000_000)
	load, err := l.dhcpLoad(ctx)
	if err != nil {
		return err
	}
	defer load.conn.Close()
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	var wg sync.WaitGroup
	var mu sync.Mutex
	var took []float64
	var errs []error
	began := time.Now()
	load.leased = func(addr netip.Addr) {
		wg.Go(func() {
			err := l.boot(ctx, addr, blocks, size)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				errs = append(errs, fmt.Errorf("client %v: %w", addr, err))
			}
			took = append(took, time.Since(began).Seconds())
		})
	}
	_, err = load.run(ctx, startingClients, startingClients)
	wg.Wait()
	if err := errors.Join(append(errs, err)...); err != nil {
		return err
	}
	slices.Sort(took)
	ideal := float64(all) / startingRate
	memory, err := peakMemory(p.pid())
	if err != nil {
		return err
	}
	b.report(figure(fmt.Sprintf("%d clients start at once: the slowest one", len(took)), "× the ideal", took[len(took)-1]/ideal).wantMost(2).
		noted("all served; %.1f s ideal, the first %.1f s, the median %.1f s, the last %.1f s", ideal, took[0], median(took), took[len(took)-1]))
	b.report(figure("the server's peak memory meanwhile", "MB", memory))
	return nil
}

// firstBlocks returns the paths of blocks at the beginning of the root's
// contents, and how many bytes they have as stored.
func (l *lanBed) firstBlocks(ctx context.Context) (paths []string, size int, err error) {
	man, _, err := l.b.bed.Manifest(ctx, "debian", debianroot.Version)
	if err != nil {
		return nil, 0, err
	}
	store := filepath.Join(l.data, "store")
	f := man.Root.Files[len(man.Root.Files)-1]
	x, err := read.Dir(store).Index(ctx, "index of the root", f.Index)
	if err != nil {
		return nil, 0, err
	}
	for i := 0; i < x.Len() && size < startingBlocks; i++ {
		e := x.Entry(i)
		if e.Zero() {
			continue
		}
		path := storepath.Block(e.SHA256)
		info, err := os.Stat(filepath.Join(store, filepath.FromSlash(path)))
		if err != nil {
			return nil, 0, err
		}
		paths, size = append(paths, path), size+int(info.Size())
	}
	return paths, size, nil
}

// boot is what a machine does when it has its address.
func (l *lanBed) boot(ctx context.Context, addr netip.Addr, blocks []string, size int) error {
	var file bytes.Buffer
	err := inside(l.client, func() error {
		_, err := tftpGet(ctx, addr, netip.AddrPortFrom(netip.MustParseAddr(lanServer), tftpPort), smallFile, tftpBlock, startingWindow, &file)
		return err
	})
	if err != nil {
		return fmt.Errorf("TFTP: %w", err)
	}
	if !bytes.Equal(file.Bytes(), l.small) {
		return fmt.Errorf("TFTP: %d bytes that are not the file's", file.Len())
	}
	// Four at a time over one connection each, as few as anybody reads with.
	client := &http.Client{Transport: &http.Transport{MaxConnsPerHost: 4, MaxIdleConnsPerHost: 4, DialContext: func(context.Context, string, string) (c net.Conn, err error) {
		err = inside(l.client, func() error {
			c, err = net.DialTCP("tcp4", &net.TCPAddr{IP: addr.AsSlice()}, &net.TCPAddr{IP: net.ParseIP(lanServer), Port: 8080})
			return err
		})
		return c, err
	}}}
	defer client.CloseIdleConnections()
	var mu sync.Mutex
	var wg sync.WaitGroup
	var errs []error
	next, got := 0, int64(0)
	for range 4 {
		wg.Go(func() {
			for {
				mu.Lock()
				i := next
				next++
				stop := i >= len(blocks) || len(errs) > 0
				mu.Unlock()
				if stop {
					return
				}
				n, err := discard(ctx, client, "http://"+lanServer+":8080/"+blocks[i])
				mu.Lock()
				got += n
				if err != nil {
					errs = append(errs, err)
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if got != int64(size) {
		return fmt.Errorf("%d bytes of blocks came; want %d", got, size)
	}
	return nil
}

// discard reads what is at a URL, and returns its length.
func discard(ctx context.Context, client *http.Client, url string) (int64, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return 0, fmt.Errorf("%s: %s", url, resp.Status)
	}
	return io.Copy(io.Discard, resp.Body)
}
