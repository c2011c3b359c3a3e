// Package command is the command line of blockfs.
package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/inetboot/inetboot/blockfs/index"
	"github.com/inetboot/inetboot/blockfs/read"
	"github.com/inetboot/inetboot/internal/digest"
	"github.com/inetboot/inetboot/internal/handoff"
	"github.com/inetboot/inetboot/internal/mirror"
)

// New returns the root command.
func New(stdin io.Reader, stdout, stderr io.Writer) *cobra.Command {
	c := &cobra.Command{
		Use:   "blockfs",
		Short: "Mount and read files of verified blocks",
		Example: `  blockfs mount --store https://boot.example.org --file data=2f3a...90 /mnt/files
  blockfs status                           # on a machine that was booted
  blockfs completion bash >/etc/bash_completion.d/blockfs`,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	c.SetIn(stdin)
	c.SetOut(stdout)
	c.SetErr(stderr)
	c.AddCommand(newMount(), newCat(), newIndex(), newStatus(), newInit(), newDaemon())
	return c
}

// storeOptions say where blocks come from.
type storeOptions struct {
	stores  []string
	ca      string
	proxy   string
	verbose bool
}

func (o *storeOptions) flags(c *cobra.Command) {
	f := c.Flags()
	f.StringArrayVar(&o.stores, "store", nil, "folder or base URL of a store; may be repeated for mirrors")
	f.StringVar(&o.ca, "ca", "", "file with PEM certificates to trust beside the public ones")
	f.StringVar(&o.proxy, "proxy", "", "HTTP proxy, as http://[user:password@]host:port")
	f.BoolVarP(&o.verbose, "verbose", "v", false, "say more")
}

func (o *storeOptions) logger(w io.Writer) *slog.Logger {
	level := slog.LevelInfo
	if o.verbose {
		level = slog.LevelDebug
	}
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: level}))
}

// open returns the store, and a function that closes it.
func (o *storeOptions) open(log *slog.Logger, h *handoff.Handoff) (read.Store, func(), error) {
	c, folder, err := o.locate(log, h)
	if err != nil {
		return nil, nil, err
	}
	if c == nil {
		return read.Dir(folder), func() {}, nil
	}
	return read.Mirror(c), c.Close, nil
}

// locate returns a client for the mirrors, to be closed, or the folder that is
// the store.
func (o *storeOptions) locate(log *slog.Logger, h *handoff.Handoff) (*mirror.Client, string, error) {
	stores, mo := o.stores, mirror.Options{Proxy: o.proxy, Logger: log, Attempts: 1}
	if h != nil {
		if len(stores) == 0 {
			stores = h.Mirrors
		}
		mo.CA = h.CA
		if mo.Proxy == "" {
			mo.Proxy = h.Proxy
		}
	}
	if len(stores) == 0 {
		return nil, "", errors.New("name a store with --store")
	}
	if u, err := url.Parse(stores[0]); err != nil || u.Scheme != "http" && u.Scheme != "https" {
		if len(stores) > 1 {
			return nil, "", errors.New("--store: several stores have to be URLs")
		}
		if st, err := os.Stat(stores[0]); err != nil {
			return nil, "", fmt.Errorf("--store: %w", err)
		} else if !st.IsDir() {
			return nil, "", fmt.Errorf("--store: %s is not a folder", stores[0])
		}
		return nil, stores[0], nil
	}
	if o.ca != "" {
		pem, err := os.ReadFile(o.ca)
		if err != nil {
			return nil, "", fmt.Errorf("--ca: %w", err)
		}
		mo.CA += "\n" + string(pem)
	}
	c, err := mirror.New(stores, mo)
	if err != nil {
		return nil, "", fmt.Errorf("--store: %w", err)
	}
	return c, "", nil
}

// named is a file of a root: its name and its index.
type named struct {
	name  string
	index digest.Blob
	size  int64 // 0: not known
}

// parseNamed reads NAME=SHA256 or NAME=SHA256:SIZE.
func parseNamed(s string) (named, error) {
	name, ref, ok := strings.Cut(s, "=")
	if !ok || name == "" {
		return named{}, fmt.Errorf("%q: want NAME=SHA256 of the index", s)
	}
	blob, err := parseBlob(ref)
	return named{name: name, index: blob}, err
}

// parseBlob reads SHA256 or SHA256:SIZE.
func parseBlob(s string) (digest.Blob, error) {
	sum, size, ok := strings.Cut(s, ":")
	d, err := digest.Parse(sum)
	if err != nil {
		return digest.Blob{}, err
	}
	b := digest.Blob{SHA256: d}
	if ok {
		if b.Size, err = strconv.ParseInt(size, 10, 64); err != nil || b.Size <= 0 || b.Size > index.MaxBytes {
			return digest.Blob{}, fmt.Errorf("%q: want the size of the index in bytes behind the colon", s)
		}
	}
	return b, nil
}

func readHandoff(name string) (*handoff.Handoff, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, handoff.MaxSize+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	h, err := handoff.Parse(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return h, nil
}

func openIndex(ctx context.Context, s read.Store, f named) (*index.Index, error) {
	x, err := s.Index(ctx, "index of "+f.name, f.index)
	if err != nil {
		return nil, err
	}
	if f.size != 0 && x.Size() != f.size {
		return nil, fmt.Errorf("index of %s describes a file of %d bytes, but %d are listed: %w", f.name, x.Size(), f.size, digest.ErrMismatch)
	}
	return x, nil
}
