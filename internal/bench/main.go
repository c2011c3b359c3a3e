// Command bench measures the parts beside well-known programs that do
// comparable work, in one run on one machine. Figures are for ratios: machines
// are noisy. It needs root, for mounts and loop devices.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"text/tabwriter"

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

// result is one line of the table. A ratio above 1 means that ours is better;
// without a peer there is none.
type result struct {
	Name     string   `json:"name"`
	Unit     string   `json:"unit"`
	Ours     float64  `json:"ours"`
	Peer     *float64 `json:"peer"`
	PeerName string   `json:"peer_name"`
	Ratio    *float64 `json:"ratio"`
}

// speed compares two rates, of which the larger one is better.
func speed(name, unit string, ours, peer float64, peerName string) result {
	ratio := ours / peer
	return result{name, unit, ours, &peer, peerName, &ratio}
}

// bench is what the parts share.
type bench struct {
	build, dir string
	tarball    string
	bed        *testbed.Bed
	out        io.Writer
	log        *os.File // what programs print
}

func run(ctx context.Context, args []string, out io.Writer) (err error) {
	fs := flag.NewFlagSet("bench", flag.ContinueOnError)
	build := fs.String("build", "build", "folder with the programs and inetboot.iso")
	which := fs.String("run", "all", "push, read, boot or all")
	if err := fs.Parse(args); err != nil {
		return err
	}
	parts := map[string]func(*bench, context.Context) ([]result, error){"push": (*bench).push, "read": (*bench).read, "boot": (*bench).boot}
	if _, ok := parts[*which]; !ok && *which != "all" {
		return fmt.Errorf("-run %q: want push, read, boot or all", *which)
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
	if b.dir, err = os.MkdirTemp(results, "work-"); err != nil {
		return err
	}
	defer os.RemoveAll(b.dir)
	if b.log, err = os.Create(filepath.Join(results, "log")); err != nil {
		return err
	}
	defer b.log.Close()

	var all []result
	for _, name := range []string{"push", "read", "boot"} {
		if *which != "all" && *which != name {
			continue
		}
		if name != "push" && b.bed == nil {
			fmt.Fprintln(out, "bench: publishing Debian on a server")
			if b.bed, err = testbed.Start(ctx, testbed.Options{Build: b.build, Dir: b.dir, Source: b.tarball, Log: b.log}); err != nil {
				return err
			}
			defer func() { err = errors.Join(err, b.bed.Close()) }()
		}
		rs, err := parts[name](b, ctx)
		if err != nil {
			return fmt.Errorf("%s (programs' output is in %s): %w", name, b.log.Name(), err)
		}
		data, err := json.MarshalIndent(rs, "", " ")
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(results, name+".json"), append(data, '\n'), 0o644); err != nil {
			return err
		}
		all = append(all, rs...)
	}
	return table(out, all)
}

func table(out io.Writer, rs []result) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "what\tunit\tours\tpeer\t\tratio")
	for _, r := range rs {
		if r.Peer == nil {
			fmt.Fprintf(w, "%s\t%s\t%.1f\t\t\t\n", r.Name, r.Unit, r.Ours)
			continue
		}
		fmt.Fprintf(w, "%s\t%s\t%.1f\t%.1f\t%s\t%.2f\n", r.Name, r.Unit, r.Ours, *r.Peer, r.PeerName, *r.Ratio)
	}
	return w.Flush()
}

// command runs a program; its output goes to the log.
func (b *bench) command(ctx context.Context, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stdout, cmd.Stderr = b.log, b.log
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w", strings.Join(append([]string{filepath.Base(name)}, args...), " "), err)
	}
	return nil
}
