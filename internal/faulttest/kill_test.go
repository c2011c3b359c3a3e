package faulttest

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/inetboot/inetboot/blockfs/read/readtest"
	"github.com/inetboot/inetboot/blockfs/root"
)

const kills = 200

// TestKills kills the daemon 200 times while it writes its cache. Every byte
// that is read in between is right, and what the cache had it still has.
func TestKills(t *testing.T) {
	prog := program(t)
	store := t.TempDir()
	contents := [2][]byte{readtest.Mixed(300_000, 1), readtest.Mixed(96<<20, 2)}
	im := image{meta: readtest.Write(t, store, contents[0]), data: readtest.Write(t, store, contents[1])}
	srv := newServer(t, store)
	dir, cache := mkdir(t, "mnt"), mkdir(t, "cache")
	args := []string{"--store", srv.url(), "--patience", "20s", "--memory", "8", "--cache", cache, "--cache-size", "300"}
	rnd := rand.New(rand.NewPCG(3, 4))
	check := func(d *daemon, off, n int) {
		t.Helper()
		f, err := os.Open(filepath.Join(d.dir, "data"))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		p := make([]byte, n)
		if _, err := f.ReadAt(p, int64(off)); err != nil {
			t.Fatalf("read at %d: %v", off, err)
		}
		if !bytes.Equal(p, contents[1][off:off+n]) {
			t.Fatalf("read at %d: wrong bytes", off)
		}
	}
	const piece = 1 << 20
	for i := range kills {
		d := startMount(t, prog, dir, im, append(args, "--fill")...)
		// Readers and the background fill write the cache meanwhile.
		for end := time.Now().Add(time.Duration(rnd.IntN(60)) * time.Millisecond); time.Now().Before(end); {
			check(d, rnd.IntN(len(contents[1])-piece), piece)
		}
		d.kill(t)
		if t.Failed() {
			t.Fatalf("after %d kills", i)
		}
	}

	// What is left is good, and most of it is there.
	status := filepath.Join(t.TempDir(), "status")
	d := startMount(t, prog, dir, im, append(args, "--status", status)...)
	s := ask(t, prog, status)
	if s.Cache == nil || s.Cache.Blocks < int(s.Root.Blocks)/2 {
		t.Errorf("after %d kills the cache is %+v; want more than half of the %d blocks", kills, s.Cache, s.Root.Blocks)
	}
	kept := s.Cache.Blocks
	for off := 0; off+piece <= len(contents[1]); off += piece {
		check(d, off, piece)
	}
	s = ask(t, prog, status)
	t.Logf("%d of %d blocks were kept; %d were wrong", kept, s.Root.Blocks, s.Reads.CacheRefused)
	if s.Reads.CacheRefused > kills/10 {
		t.Errorf("%d blocks of the cache were wrong after %d kills; want next to none", s.Reads.CacheRefused, kills)
	}
	d.kill(t)
}

func ask(t *testing.T, prog, socket string) root.Status {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), prog, "status", "--json", "--socket", socket).Output()
	if err != nil {
		t.Fatalf("blockfs status: %v", err)
	}
	var s root.Status
	if err := json.Unmarshal(out, &s); err != nil {
		t.Fatal(err)
	}
	return s
}
