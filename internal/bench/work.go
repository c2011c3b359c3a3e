package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"
)

// What is done with mounted files, the same for everybody.

// readFile reads a file to its end in pieces of 1 MiB and returns its length.
func readFile(name string) (n int64, err error) {
	f, err := os.Open(name)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	buf := make([]byte, 1<<20)
	for {
		k, err := f.Read(buf)
		n += int64(k)
		if errors.Is(err, io.EOF) {
			return n, nil
		}
		if err != nil {
			return n, err
		}
	}
}

// rate reads a file and returns MB/s.
func rate(name string) (float64, error) {
	start := time.Now()
	n, err := readFile(name)
	return float64(n) / 1e6 / time.Since(start).Seconds(), err
}

// entry is a regular file of a tree.
type entry struct {
	name string // below the tree
	size int64
}

// regularFiles lists a tree in its lexical order.
func regularFiles(root string) ([]entry, error) {
	var list []entry
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		list = append(list, entry{rel, info.Size()})
		return err
	})
	return list, err
}

// readTree reads all regular files, as tar does, and returns MB/s.
func readTree(ctx context.Context, root string, files []entry) (float64, error) {
	start := time.Now()
	var sum int64
	for _, f := range files {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		n, err := readFile(filepath.Join(root, f.name))
		if err != nil {
			return 0, err
		}
		if n != f.size {
			return 0, fmt.Errorf("%s has %d bytes; want %d", f.name, n, f.size)
		}
		sum += n
	}
	return float64(sum) / 1e6 / time.Since(start).Seconds(), nil
}

// randomReads reads n pages of 4 KiB at random places of the largest files and
// returns reads per second. Equal files give the same places.
func randomReads(ctx context.Context, root string, files []entry, n int) (float64, error) {
	r := rand.New(rand.NewPCG(1, 4096))
	type open struct {
		f     *os.File
		pages int64
	}
	var opened []open
	var pages int64
	defer func() {
		for _, o := range opened {
			o.f.Close()
		}
	}()
	for _, f := range files {
		if f.size < 1<<20 {
			continue
		}
		o, err := os.Open(filepath.Join(root, f.name))
		if err != nil {
			return 0, err
		}
		opened = append(opened, open{o, f.size / 4096})
		pages += f.size / 4096
	}
	if len(opened) == 0 {
		return 0, errors.New("no file of 1 MiB to read at random")
	}
	buf := make([]byte, 4096)
	start := time.Now()
	for i := range n {
		if i%1024 == 0 && ctx.Err() != nil {
			return 0, ctx.Err()
		}
		o := opened[r.IntN(len(opened))]
		if _, err := o.f.ReadAt(buf, r.Int64N(o.pages)*4096); err != nil {
			return 0, err
		}
	}
	return float64(n) / time.Since(start).Seconds(), nil
}

// sample returns n of the files, at random but the same each time, in random order.
func sample(files []entry, n int) []entry {
	r := rand.New(rand.NewPCG(2, 250))
	s := make([]entry, 0, n)
	for _, i := range r.Perm(len(files)) {
		if files[i].size > 0 && len(s) < n {
			s = append(s, files[i])
		}
	}
	return s
}
