// Command bench measures the parts beside well-known programs that do
// comparable work, in one run on one machine. Figures are for ratios: machines
// are noisy. It needs root, for mounts and loop devices. docs/benchmarks.md
// says what each figure means.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/inetboot/inetboot/internal/debianroot"
	"github.com/inetboot/inetboot/internal/testbed"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// bench is what the parts share.
type bench struct {
	build, dir string
	tarball    string
	bed        *testbed.Bed
	plain      *plain
	control    string // FUSE's control filesystem
	out        io.Writer
	log        *os.File // what programs print
	results    []result
	lan        *lanBed
	atEnd      []func() error
}

// cleanup is called at the end, in reverse order.
func (b *bench) cleanup(f func() error) { b.atEnd = append(b.atEnd, f) }

func (b *bench) close() error {
	var errs []error
	for _, f := range slices.Backward(b.atEnd) {
		errs = append(errs, f())
	}
	return errors.Join(errs...)
}

// part is a piece of the work that can be run alone.
type part struct {
	name string
	run  func(*bench, context.Context) error
	bare bool // needs no published Debian
}

func parts() []part {
	return []part{
		{"push", (*bench).push, true},
		{"blockfs-cold", (*bench).coldLocal, false},
		{"blockfs-warm", (*bench).warm, false},
		{"blockfs-memory", (*bench).memory, false},
		{"blockfs-update", (*bench).update, false},
		{"blockfs-line", (*bench).line, false},
		{"blockfs-boot", (*bench).roots, false},
		{"preboot-download", (*bench).prebootDownload, false},
		{"menu", (*bench).menu, true},
		{"boot", (*bench).boot, false},
		{"lan-tftp", (*bench).lanTFTP, false},
		{"lan-nfs", (*bench).lanNFS, false},
		{"lan-nbd", (*bench).lanNBD, false},
		{"lan-dhcp", (*bench).lanDHCP, false},
		{"lan-clients", (*bench).lanClients, false},
	}
}

// selection returns the names of the parts that a word stands for.
func selection(word string) ([]string, error) {
	local := []string{"blockfs-cold", "blockfs-warm", "blockfs-memory", "blockfs-update"}
	groups := map[string][]string{"blockfs-local": local, "blockfs": append(local, "blockfs-line", "blockfs-boot")}
	for _, p := range parts() {
		if strings.HasPrefix(p.name, "lan-") {
			groups["lan"] = append(groups["lan"], p.name)
		}
		groups[p.name] = []string{p.name}
		groups["all"] = append(groups["all"], p.name)
	}
	var names []string
	for w := range strings.SplitSeq(word, ",") {
		g, ok := groups[w]
		if !ok {
			return nil, fmt.Errorf("-run %q: want one of %s", w, strings.Join(slices.Sorted(maps.Keys(groups)), ", "))
		}
		names = append(names, g...)
	}
	return names, nil
}

func run(ctx context.Context, args []string, out io.Writer) (err error) {
	fs := flag.NewFlagSet("bench", flag.ContinueOnError)
	build := fs.String("build", "build", "folder with the programs and inetboot.iso")
	which := fs.String("run", "all", "part to run, or several with commas: push, blockfs, blockfs-local, blockfs-line, blockfs-boot, preboot-download, menu, boot, lan, lan-tftp, lan-nfs, lan-nbd, lan-dhcp, lan-clients, all")
	if err := fs.Parse(args); err != nil {
		return err
	}
	names, err := selection(*which)
	if err != nil {
		return err
	}
	if os.Geteuid() != 0 {
		return errors.New("mounts and loop devices need root")
	}
	b := &bench{out: out}
	if b.build, err = filepath.Abs(*build); err != nil {
		return err
	}
	if b.tarball, err = debianroot.Tarball(ctx, out); err != nil {
		return err
	}
	results := filepath.Join(b.build, "bench")
	if err := os.MkdirAll(results, 0o755); err != nil {
		return err
	}
	if b.log, err = os.Create(filepath.Join(results, "log")); err != nil {
		return err
	}
	defer b.log.Close()
	defer func() { err = errors.Join(err, b.close()) }()
	// With a dot, so that `go vet ./...` does not look for packages in what is mounted there.
	if b.dir, err = os.MkdirTemp(results, ".work-"); err != nil {
		return err
	}
	b.cleanup(func() error { return os.RemoveAll(b.dir) })
	if err := b.mountControl(); err != nil {
		return err
	}
	b.cleanup(func() error { return syscall.Unmount(b.control, syscall.MNT_DETACH) })

	var all []result
	for _, p := range parts() {
		if !slices.Contains(names, p.name) {
			continue
		}
		if !p.bare && b.bed == nil {
			b.say("publishing Debian on a server")
			if b.bed, err = testbed.Start(ctx, testbed.Options{Build: b.build, Dir: b.dir, Source: b.tarball, Log: b.log}); err != nil {
				return err
			}
			b.cleanup(b.bed.Close)
		}
		b.results = nil
		err := p.run(b, ctx)
		all = append(all, b.results...)
		if err := errors.Join(err, writeJSON(results, p.name, b.results)); err != nil {
			return errors.Join(fmt.Errorf("%s (programs' output is in %s): %w", p.name, b.log.Name(), err), table(out, all))
		}
	}
	return table(out, all)
}
