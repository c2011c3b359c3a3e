// Command cmd prints the path of a Debian system, making it first if need be:
// that of the demonstration, or with -all those of the boot tests, too, one a
// line.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"

	"github.com/inetboot/inetboot/internal/debianroot"
)

func main() {
	all := flag.Bool("all", false, "make the small systems of the boot tests, too")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *all, os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "debianroot:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, all bool, stdout, log io.Writer) error {
	path, err := debianroot.Tarball(ctx, log)
	if err != nil {
		return err
	}
	fmt.Fprintln(stdout, path)
	if !all {
		return nil
	}
	for _, s := range debianroot.Systems() {
		if path, err = s.Tarball(ctx, log); err != nil {
			return err
		}
		fmt.Fprintln(stdout, path)
	}
	return nil
}
