package command_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/inetboot/inetboot/blockfs/index"
	"github.com/inetboot/inetboot/blockfs/pack"
	"github.com/inetboot/inetboot/catalog"
	"github.com/inetboot/inetboot/imagetool/command"
	"github.com/inetboot/inetboot/imagetool/testtree"
	"github.com/inetboot/inetboot/internal/digest"
	"github.com/inetboot/inetboot/internal/handoff"
	"github.com/inetboot/inetboot/internal/storepath"
)

// published returns the manifest of the image test 1 in a store's folder, and
// how many blocks each file of its root has.
func published(t *testing.T, store string) (digest.SHA256, *catalog.Manifest, []int) {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(store, "catalog/targets/images/test/1/*.amd64.json"))
	if err != nil || len(names) != 1 {
		t.Fatalf("manifests %v, %v; want one", names, err)
	}
	data, err := os.ReadFile(names[0])
	if err != nil {
		t.Fatal(err)
	}
	m, err := catalog.ParseManifest(data)
	if err != nil {
		t.Fatal(err)
	}
	var blocks []int
	for _, f := range m.Root.Files {
		raw, err := os.ReadFile(filepath.Join(store, storepath.Index(f.Index.SHA256)))
		if err != nil {
			t.Fatal(err)
		}
		x, err := index.Parse(raw)
		if err != nil {
			t.Fatal(err)
		}
		blocks = append(blocks, x.Len())
	}
	return digest.Of(data), m, blocks
}

// bootReports returns reports of boots that read most blocks, each in another
// order.
func bootReports(t *testing.T, store string, n int) (reports []*pack.Report, files []string) {
	t.Helper()
	sum, m, blocks := published(t, store)
	for i := range n {
		r := &pack.Report{
			Format: pack.Format, BootID: fmt.Sprintf("%032x", i), Client: fmt.Sprintf("52:54:00:00:00:%02x", i),
			Image: handoff.Image{Name: m.Name, Version: m.Version, Arch: m.Arch, Manifest: sum}, Files: []string{"meta", "data"},
		}
		rng := rand.New(rand.NewPCG(uint64(i), 1))
		for f, n := range blocks {
			for _, b := range rng.Perm(n) {
				if rng.IntN(4) > 0 {
					r.Trace = append(r.Trace, pack.Access{File: f, Block: b, MS: len(r.Trace)})
				}
			}
		}
		data, err := r.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(t.TempDir(), "boot.json")
		if err := os.WriteFile(file, data, 0o644); err != nil {
			t.Fatal(err)
		}
		reports, files = append(reports, r), append(files, file)
	}
	return reports, files
}

// bigTree is a source whose root has some blocks.
func bigTree(t *testing.T) string {
	t.Helper()
	src := testtree.New(t, 1)
	for i := range 12 {
		data := make([]byte, 300_000)
		rand.NewChaCha8([32]byte{byte(i)}).Read(data)
		testtree.Write(t, src, fmt.Sprintf("srv/file%d", i), data)
	}
	return src
}

func TestTrace(t *testing.T) {
	c := newTool(t)
	store, src, program := filepath.Join(t.TempDir(), "store"), bigTree(t), testtree.Program(t)
	c.run(command.ExitOK, "init", "--no-passphrase", "--to", store)
	c.run(command.ExitOK, "push", src, "--name", "test", "--version", "1", "--blockfs", program)
	_, files := bootReports(t, store, 3)
	sum, _, _ := published(t, store)
	file := filepath.Join(store, storepath.Pack(sum))

	if _, errs := c.run(command.ExitStore, "trace", "show", "test"); !strings.Contains(errs, "no boot pack") {
		t.Errorf("trace show without a pack says %q", errs)
	}
	c.run(command.ExitStore, "trace", "rm", "test/1")
	out, _ := c.run(command.ExitOK, append([]string{"trace", "add", "test"}, files...)...)
	if !strings.Contains(out, "test 1 amd64: boot pack of ") || !strings.Contains(out, "from 3 reports") {
		t.Errorf("trace add says %q", out)
	}
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	h, err := pack.Check(bytes.NewReader(data), sum, int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	out, _ = c.run(command.ExitOK, "trace", "show", "test/1/amd64", "--json")
	var s struct {
		Name, Manifest string
		Blocks, Of     int
		Bytes          int64
		Share          float64
		Foreign        int
		Files          []struct {
			Name       string
			Blocks, Of int
		}
	}
	if err := json.Unmarshal([]byte(out), &s); err != nil {
		t.Fatalf("%v in %s", err, out)
	}
	if s.Name != "test" || s.Manifest != sum.String() || s.Blocks != h.Records || s.Bytes != int64(len(data)) || s.Share <= 0 || s.Share > 0.5 ||
		s.Foreign != 0 || len(s.Files) != 2 || s.Files[0].Blocks+s.Files[1].Blocks != s.Blocks || s.Of < s.Blocks {
		t.Errorf("trace show --json = %s", out)
	}
	if out, _ = c.run(command.ExitOK, "trace", "show", "test"); !strings.Contains(out, fmt.Sprintf("boot pack of %d blocks of %d", s.Blocks, s.Of)) || !strings.Contains(out, "  data ") {
		t.Errorf("trace show says %q", out)
	}

	// The same reports give the same pack, and a block less if the store lacks it.
	c.run(command.ExitOK, append([]string{"trace", "add", "test", "--json"}, files...)...)
	if again, err := os.ReadFile(file); err != nil || !bytes.Equal(again, data) {
		t.Errorf("the second time another pack comes out (%v)", err)
	}
	r, err := pack.NewReader(bytes.NewReader(data), sum, 0)
	if err != nil {
		t.Fatal(err)
	}
	rec, err := r.Next()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(store, storepath.Block(rec.SHA256))); err != nil {
		t.Fatal(err)
	}
	out, _ = c.run(command.ExitOK, append([]string{"trace", "add", "test", "--json"}, files...)...)
	if !strings.Contains(out, `"missing": 1`) || !strings.Contains(out, fmt.Sprintf(`"blocks": %d`, h.Records-1)) {
		t.Errorf("trace add with a missing block = %s", out)
	}

	bad := filepath.Join(t.TempDir(), "bad.json")
	if err := os.WriteFile(bad, []byte("{"), 0o644); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	foreign, outside := filepath.Join(t.TempDir(), "foreign.json"), filepath.Join(t.TempDir(), "outside.json")
	if err := os.WriteFile(foreign, bytes.Replace(whole, []byte(sum.String()), []byte(digest.Of(nil).String()), 1), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(outside, bytes.Replace(whole, []byte(`"trace":[`), []byte(`"trace":[[1,16000000,0],`), 1), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, f := range []string{bad, foreign, outside, filepath.Join(t.TempDir(), "none.json")} {
		if _, errs := c.run(command.ExitSource, "trace", "add", "test", files[1], f); !strings.Contains(errs, f) {
			t.Errorf("trace add with %s does not name it: %q", f, errs)
		}
	}
	c.run(command.ExitUsage, "trace", "add", "test")
	c.run(command.ExitUsage, "trace", "show", "test//amd64")
	c.run(command.ExitStore, "trace", "show", "other")
	testtree.Write(t, src, "etc/more", []byte("more"))
	c.run(command.ExitOK, "push", src, "--name", "test", "--version", "2", "--blockfs", program)
	if _, errs := c.run(command.ExitUsage, "trace", "show", "test"); !strings.Contains(errs, "test/1/amd64, test/2/amd64") {
		t.Errorf("an ambiguous image is not explained: %q", errs)
	}
	c.run(command.ExitOK, "trace", "rm", "test/1")
	if _, err := os.Stat(file); !os.IsNotExist(err) {
		t.Errorf("trace rm leaves the pack: %v", err)
	}
}

// Server and imagetool make the same pack of the same reports.
func TestTraceAsTheServer(t *testing.T) {
	c := newTool(t)
	url, tokenFile, store := testtree.Server(t)
	c.run(command.ExitOK, "init", "--no-passphrase", "--to", url, "--token-file", tokenFile)
	c.run(command.ExitOK, "push", bigTree(t), "--name", "test", "--version", "1", "--blockfs", testtree.Program(t))
	reports, files := bootReports(t, store, 4)
	sum, _, _ := published(t, store)
	// A copy of the store that is only files.
	static := filepath.Join(t.TempDir(), "static")
	if err := os.CopyFS(static, os.DirFS(store)); err != nil {
		t.Fatal(err)
	}
	c.run(command.ExitOK, append([]string{"trace", "add", "test", "--to", static}, files...)...)
	byHand, err := os.ReadFile(filepath.Join(static, storepath.Pack(sum)))
	if err != nil {
		t.Fatal(err)
	}

	for _, r := range reports {
		if err := pack.Post(t.Context(), http.DefaultClient, url, r); err != nil {
			t.Fatal(err)
		}
	}
	file := filepath.Join(store, storepath.Pack(sum))
	for end := time.Now().Add(60 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		byServer, err := os.ReadFile(file)
		if err == nil && bytes.Equal(byServer, byHand) {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("the server's pack has %d bytes, %v, the one by hand %d; want the same", len(byServer), err, len(byHand))
		}
	}
	// And over HTTP: the server keeps what a publisher puts there.
	c.run(command.ExitOK, "trace", "rm", "test")
	if _, err := os.Stat(file); !os.IsNotExist(err) {
		t.Errorf("trace rm leaves the server's pack: %v", err)
	}
	c.run(command.ExitOK, append([]string{"trace", "add", "test"}, files...)...)
	if uploaded, err := os.ReadFile(file); err != nil || !bytes.Equal(uploaded, byHand) {
		t.Errorf("the uploaded pack has %d bytes, %v; want the same %d", len(uploaded), err, len(byHand))
	}
	if out, _ := c.run(command.ExitOK, "trace", "show", "test"); !strings.Contains(out, "boot pack of ") {
		t.Errorf("trace show says %q", out)
	}
	// The reports as the server keeps them can be used as well.
	kept, err := filepath.Glob(filepath.Join(filepath.Dir(store), "boots", sum.String(), "*.json"))
	if err != nil || len(kept) != len(files) {
		t.Errorf("the server keeps %v, %v; want %d reports", kept, err, len(files))
	}
	c.run(command.ExitOK, append([]string{"trace", "add", "test", "--to", static}, kept...)...)
	if again, err := os.ReadFile(filepath.Join(static, storepath.Pack(sum))); err != nil || !bytes.Equal(again, byHand) {
		t.Errorf("the pack of the kept reports has %d bytes, %v; want the same %d", len(again), err, len(byHand))
	}
	c.run(command.ExitKey, append([]string{"trace", "add", "test", "--token", "wrong-wrong-wrong-wrong"}, files...)...)
}
