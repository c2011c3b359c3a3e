package mirror

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/inetboot/inetboot/internal/digest"
	"github.com/inetboot/inetboot/internal/mirror/mirrortest"
	"github.com/inetboot/inetboot/internal/storepath"
)

// blocks returns some blocks of a store by path, and a catalog.
func blocks(t *testing.T, n, size int) (files map[string][]byte, paths []string) {
	files = map[string][]byte{storepath.Timestamp: random(t, 500)}
	for range n {
		b := random(t, size)
		p := storepath.Block(digest.Of(b))
		files[p] = b
		paths = append(paths, p)
	}
	return files, paths
}

// readAllOf reads all paths, some at a time, and checks every byte.
func readAllOf(t *testing.T, c *Client, files map[string][]byte, paths []string, parallel int) {
	t.Helper()
	var wg sync.WaitGroup
	queue := make(chan string)
	for range parallel {
		wg.Go(func() {
			for p := range queue {
				want := digest.Of(files[p])
				got, err := c.Read(t.Context(), p, make([]byte, 0, len(files[p])), int64(len(files[p])), func(b []byte) error { return want.Check(p, b) })
				if err != nil || !bytes.Equal(got, files[p]) {
					t.Errorf("Read(%s) = %d bytes, %v; want the %d that are there", p, len(got), err, len(files[p]))
				}
			}
		})
	}
	for _, p := range paths {
		queue <- p
	}
	close(queue)
	wg.Wait()
}

// With one good mirror behind one that misbehaves, every byte is right, and
// what the bad one costs has a bound.
func TestOneGoodMirror(t *testing.T) {
	files, paths := blocks(t, 60, 20_000)
	for _, parallel := range []int{1, 8} {
		for _, f := range mirrortest.Faults() {
			t.Run(fmt.Sprintf("%s, %d at once", f.Name, parallel), func(t *testing.T) {
				t.Parallel()
				bad := mirrortest.Serve(t, f.Wrap(mirrortest.Files(files)))
				ok := mirrortest.Serve(t, mirrortest.Files(files))
				c := newClient(t, Options{Attempts: 1, Connections: 8}, bad.URL, ok.URL)
				start := time.Now()
				readAllOf(t, c, files, paths, parallel)
				took := time.Since(start)
				if f.Harmless {
					if ok.Requests() != 0 {
						t.Errorf("the second mirror was asked %d times; want none", ok.Requests())
					}
					return
				}
				// Trouble is seen by those that were under way; each may be redirected ten times.
				if most := parallel * 11; bad.Requests() > most {
					t.Errorf("the bad mirror was asked %d times; want at most %d", bad.Requests(), most)
				}
				limit := 4 * time.Second
				if f.Slow {
					limit = 8 * time.Second // twice a second's patience, on a busy machine
				}
				if took > limit {
					t.Errorf("took %v; want at most %v", took, limit)
				}
				if s := c.State(); s[0].URL != ok.URL || !s[0].Preferred || s[1].Resting == 0 || s[1].LastError == "" {
					t.Errorf("State() = %+v; want the good mirror first and the bad one resting", s)
				}
			})
		}
	}
}

func TestRefusedConnections(t *testing.T) {
	files, paths := blocks(t, 50, 1000)
	ok := mirrortest.Serve(t, mirrortest.Files(files))
	c := newClient(t, Options{Attempts: 1}, mirrortest.Refusing(t), ok.URL)
	readAllOf(t, c, files, paths, 4)
	if s := c.State(); s[1].Requests > 4 {
		t.Errorf("the absent mirror was asked %d times; want at most 4", s[1].Requests)
	}
}

// Three mirrors of which one corrupts, one truncates and one stalls, and a
// fourth that is good: wherever it stands, every byte is right.
func TestThreeBadMirrorsAndAGoodOne(t *testing.T) {
	files, paths := blocks(t, 60, 20_000)
	good := mirrortest.Files(files)
	for at := range 4 {
		t.Run(fmt.Sprint("good at ", at), func(t *testing.T) {
			t.Parallel()
			urls := []string{
				mirrortest.Serve(t, mirrortest.Corrupt(good)).URL,
				mirrortest.Serve(t, mirrortest.BreakOff(good)).URL,
				mirrortest.Serve(t, mirrortest.Stall(good)).URL,
			}
			urls = append(urls[:at:at], append([]string{mirrortest.Serve(t, good).URL}, urls[at:]...)...)
			start := time.Now()
			readAllOf(t, newClient(t, Options{Attempts: 1}, urls...), files, paths, 8)
			if took := time.Since(start); took > 10*time.Second {
				t.Errorf("took %v", took)
			}
		})
	}
}

// Two mirrors that are each good for half of the files only.
func TestMirrorsThatLackFiles(t *testing.T) {
	files, paths := blocks(t, 40, 1000)
	a, b := map[string][]byte{}, map[string][]byte{}
	for i, p := range paths {
		[]map[string][]byte{a, b}[i%2][p] = files[p]
	}
	c := newClient(t, Options{Attempts: 1}, mirrortest.Serve(t, mirrortest.Files(a)).URL, mirrortest.Serve(t, mirrortest.Files(b)).URL)
	readAllOf(t, c, files, paths, 4)
}

func TestDownloadWithOneGoodMirror(t *testing.T) {
	data := random(t, 3_000_000)
	files := map[string][]byte{"f": data}
	want := digest.BlobOf(data)
	for _, f := range mirrortest.Faults() {
		t.Run(f.Name, func(t *testing.T) {
			t.Parallel()
			bad := mirrortest.Serve(t, f.Wrap(mirrortest.Files(files)))
			ok := mirrortest.Serve(t, mirrortest.Files(files))
			out, err := os.Create(filepath.Join(t.TempDir(), "f"))
			if err != nil {
				t.Fatal(err)
			}
			defer out.Close()
			start := time.Now()
			if err := newClient(t, Options{}, bad.URL, ok.URL).Download(t.Context(), "f", want, out, nil); err != nil {
				t.Fatal(err)
			}
			if took := time.Since(start); took > 12*time.Second { // 15 s without
				t.Errorf("took %v; want the 4 s of patience at most", took)
			}
			if got, err := os.ReadFile(out.Name()); err != nil || !bytes.Equal(got, data) {
				t.Errorf("the file has %d bytes, %v; want the data", len(got), err)
			}
			if bad.Requests() > 11 || ok.Requests() > 2 {
				t.Errorf("%d requests to the bad mirror, %d to the good one", bad.Requests(), ok.Requests())
			}
		})
	}
}
