package pack

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/inetboot/inetboot/internal/handoff"
)

func report(trace ...Access) *Report {
	return &Report{
		Format: Format, BootID: "0f3c5a0e8d1b4c6f9a7e2d4b6c8f1a3e", Client: "52:54:00:12:34:56",
		Image: handoff.Image{Name: "debian", Version: "12", Arch: "amd64", Manifest: manifest()},
		Files: []string{"meta", "data"},
		Stages: []handoff.Stage{
			{Name: "preboot", Unix: 1795239710000}, {Name: "dhcp", Unix: 1795239712345}, {Name: "root", Unix: 1795239720345}, {Name: "quiet", Unix: 1795239745345},
		},
		Origins: Origins{Memory: Count{Blocks: 5, Bytes: 500}, Demand: Count{Blocks: 2, Bytes: 200, Stored: 100}},
		Trace:   trace,
	}
}

func TestReportRoundTrip(t *testing.T) {
	long := report()
	for i := range MaxTrace {
		long.Trace = append(long.Trace, Access{File: 1, Block: 16_000_000 + i, MS: 180_000 + i})
	}
	for name, r := range map[string]*Report{"empty": report(Trace{}...), "short": report(Access{0, 0, 0}, Access{1, 7, 12}, Access{0, 3, 12}), "longest": long} {
		t.Run(name, func(t *testing.T) {
			data, err := r.Marshal()
			if err != nil {
				t.Fatal(err)
			}
			got, err := ParseReport(data)
			if err != nil {
				t.Fatal(err)
			}
			if r.Trace == nil {
				r.Trace = Trace{}
			}
			if diff := cmp.Diff(r, got); diff != "" {
				t.Errorf("report (-want +got):\n%s", diff)
			}
		})
	}
}

func TestParseReportRefuses(t *testing.T) {
	good, err := report(Access{0, 1, 2}, Access{1, 2, 3}).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	const trace = `[[0,1,2],[1,2,3]]`
	for _, tt := range []struct{ name, old, new string }{
		{"format", `inetboot-boot/1`, `inetboot-boot/2`},
		{"boot id", `0f3c5a0e`, `0F3C5A0E`},
		{"short boot id", `0f3c5a0e`, ``},
		{"client", `52:54:00:12:34:56`, `../../etc`},
		{"client in another form", `52:54:00:12:34:56`, `52-54-00-12-34-56`},
		{"image name", `"name":"debian"`, `"name":"../x"`},
		{"version", `"version":"12"`, `"version":""`},
		{"manifest", manifest().String(), strings.Repeat("0", 64)},
		{"no hash", manifest().String(), "x"},
		{"no files", `["meta","data"]`, `[]`},
		{"file twice", `["meta","data"]`, `["meta","meta"]`},
		{"file name", `["meta","data"]`, `["meta","a/b"]`},
		{"stage name", `"name":"dhcp"`, `"name":"a\nb"`},
		{"stages out of order", `1795239712345`, `1795239700000`},
		{"negative time", `1795239710000`, `-1`},
		{"time over all limits", `1795239745345`, `9223372036854775807`},
		{"count", `"blocks":5`, `"blocks":-5`},
		{"member twice", `"format"`, `"format":"inetboot-boot/1","Format"`},
		{"data behind", `}]}`, `}]}}`},
		{"file of an access", trace, `[[2,1,2]]`},
		{"negative block", trace, `[[0,-1,2]]`},
		{"block over the limit", trace, `[[0,16777216,2]]`},
		{"block beyond 32 bits", trace, `[[0,4294967296,2]]`},
		{"fraction", trace, `[[0,1.5,2]]`},
		{"two numbers", trace, `[[0,1]]`},
		{"four numbers", trace, `[[0,1,2,3]]`},
		{"no array", trace, `[0,1,2]`},
		{"string", trace, `"AAEC"`},
		{"access twice", trace, `[[0,1,2],[0,1,3]]`},
		{"accesses out of order", trace, `[[0,1,3],[0,2,2]]`},
		{"deep", trace, strings.Repeat("[", 40) + strings.Repeat("]", 40)},
		{"many", trace, "[" + strings.Repeat("[],", MaxTrace) + "[]]"},
		{"large", trace, "[" + strings.Repeat(" ", MaxReport) + "]"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bad := bytes.Replace(good, []byte(tt.old), []byte(tt.new), 1)
			if tt.name == "data behind" {
				bad = append(bytes.Clone(good), '}')
			}
			if bytes.Equal(bad, good) {
				t.Fatalf("%q is not in the report %s", tt.old, good)
			}
			if r, err := ParseReport(bad); !errors.Is(err, ErrReport) || r != nil {
				t.Errorf("ParseReport = %v; want an error that wraps ErrReport", err)
			}
		})
	}
	if _, err := ParseReport(bytes.Replace(good, []byte(`{`), []byte(`{"later":[1],`), 1)); err != nil {
		t.Errorf("ParseReport with a member of later versions = %v; want nil", err)
	}
	bad := report()
	bad.Client = "x"
	if _, err := bad.Marshal(); !errors.Is(err, ErrReport) {
		t.Errorf("Marshal of a bad report = %v; want ErrReport", err)
	}
}

func TestSteps(t *testing.T) {
	want := []Step{{"dhcp", 2.345}, {"root", 8}, {"quiet", 25}}
	if diff := cmp.Diff(want, report().Steps()); diff != "" {
		t.Errorf("Steps (-want +got):\n%s", diff)
	}
	if s := (&Report{}).Steps(); s != nil {
		t.Errorf("Steps without stages = %v; want none", s)
	}
}

func TestPost(t *testing.T) {
	var got []byte
	status := http.StatusAccepted
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost || r.URL.Path != "/store/api/v1/boots" || r.Header.Get("Content-Type") != "application/json" {
			t.Errorf("%s %s with %q", r.Method, r.URL.Path, r.Header.Get("Content-Type"))
		}
		got, _ = io.ReadAll(r.Body)
		w.WriteHeader(status)
		fmt.Fprint(w, strings.Repeat("x", 1000))
	}))
	r := report(Access{0, 1, 2})
	if err := Post(t.Context(), s.Client(), s.URL+"/store/", r); err != nil {
		t.Errorf("Post = %v", err)
	}
	if p, err := ParseReport(got); err != nil || p.BootID != r.BootID {
		t.Errorf("the server got %s, %v", got, err)
	}
	for _, status = range []int{404, 405, 429, 500} {
		if err := Post(t.Context(), s.Client(), s.URL+"/store", r); !errors.Is(err, ErrNotTaken) {
			t.Errorf("Post with answer %d = %v; want ErrNotTaken", status, err)
		}
	}
	s.Close()
	if err := Post(t.Context(), s.Client(), s.URL+"/store", r); err == nil || errors.Is(err, ErrNotTaken) {
		t.Errorf("Post without a server = %v; want another error", err)
	}
}

func FuzzParseReport(f *testing.F) {
	for _, r := range []*Report{report(), report(Access{0, 1, 2}, Access{1, 2, 3})} {
		data, err := r.Marshal()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte(`{"format":"inetboot-boot/1","trace":[[0,1,2]]}`))
	f.Add([]byte(`{"trace":null}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := ParseReport(data)
		if err != nil {
			return
		}
		again, err := r.Marshal()
		if err != nil {
			t.Fatalf("Marshal of what was parsed = %v", err)
		}
		p, err := ParseReport(again)
		if err != nil {
			t.Fatalf("ParseReport of what was marshalled = %v", err)
		}
		x, _ := json.Marshal(p)
		if !bytes.Equal(x, again) {
			t.Errorf("a report changes on its way: %s, %s", x, again)
		}
	})
}

func BenchmarkParseReport(b *testing.B) {
	r := report()
	for i := range MaxTrace {
		r.Trace = append(r.Trace, Access{File: 1, Block: i, MS: i})
	}
	data, err := r.Marshal()
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ParseReport(data); err != nil {
			b.Fatal(err)
		}
	}
}
