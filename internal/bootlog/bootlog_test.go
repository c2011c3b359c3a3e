package bootlog

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/inetboot/inetboot/internal/handoff"
)

func example() *Report {
	return &Report{
		Format: Format, BootID: strings.Repeat("0f", 16), Client: "52:54:00:12:34:56", Part: Preboot, Failure: "failed: kernel: no", Entry: "tiny-1",
		Stages: []handoff.Stage{{Name: "init", Unix: 1}}, Lines: []Line{{1, "InetBoot, amd64"}, {2, "failed: kernel: no"}},
	}
}

func TestParse(t *testing.T) {
	data, err := example().Marshal()
	if err != nil {
		t.Fatal(err)
	}
	got, err := Parse(data)
	if diff := cmp.Diff(example(), got); err != nil || diff != "" {
		t.Errorf("Parse = %v (-want +got):\n%s", err, diff)
	}
	for name, change := range map[string]func(*Report){
		"format":     func(r *Report) { r.Format = "x" },
		"boot":       func(r *Report) { r.BootID = "../" + strings.Repeat("0", 29) },
		"client":     func(r *Report) { r.Client = "52-54-00-12-34-56" },
		"part":       func(r *Report) { r.Part = "grub" },
		"failure":    func(r *Report) { r.Failure = "a\nb" },
		"entry":      func(r *Report) { r.Entry = "\x1b[2J" },
		"stage":      func(r *Report) { r.Stages[0].Name = "a b" },
		"stage time": func(r *Report) { r.Stages[0].Unix = -1 },
		"line":       func(r *Report) { r.Lines[0].Text = strings.Repeat("x", maxText+1) },
		"line time":  func(r *Report) { r.Lines[0].Unix = maxUnix + 1 },
		"lines":      func(r *Report) { r.Lines = make([]Line, maxLines+1) },
	} {
		r := example()
		change(r)
		if err := r.check(); !errors.Is(err, ErrReport) {
			t.Errorf("%s: check = %v; want ErrReport", name, err)
		}
	}
	for _, in := range []string{"", "{}", "[]", strings.Repeat("[", 1<<20)} {
		if _, err := Parse([]byte(in)); !errors.Is(err, ErrReport) {
			t.Errorf("Parse(%.20q) = %v; want ErrReport", in, err)
		}
	}
}

// However much was logged, what is sent can be taken, and has the newest.
func TestMarshalBounds(t *testing.T) {
	var rec Recorder
	begin := time.Now()
	for i := range 2000 {
		rec.Add(begin.Add(time.Duration(i)*time.Second), fmt.Sprintf("%d\n\x1b%s\xff", i, strings.Repeat("\u00e4", 2000)))
	}
	r := example()
	r.Lines, r.Failure, r.Stages = rec.Lines(), strings.Repeat("y\t", 5000), make([]handoff.Stage, 100)
	for i := range r.Stages {
		r.Stages[i].Name = "init"
	}
	data, err := r.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	got, err := Parse(data)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(got.Lines); n < 100 || !strings.HasPrefix(got.Lines[n-1].Text, "1999  ") || got.Lines[n-1].Unix-begin.UnixMilli() != 1999_000 || len(got.Stages) != maxStages {
		t.Errorf("%d lines, the last one %+v; %d stages", n, got.Lines[n-1], len(got.Stages))
	}
}

func TestPost(t *testing.T) {
	var taken []byte
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		if q.Method != http.MethodPost || q.URL.Path != "/base/"+Path {
			http.NotFound(w, q)
			return
		}
		taken, _ = io.ReadAll(q.Body)
		w.WriteHeader(http.StatusAccepted)
	}))
	defer srv.Close()
	if err := Post(t.Context(), srv.Client(), srv.URL+"/base/", example()); err != nil {
		t.Error(err)
	}
	if got, err := Parse(taken); err != nil || got.Failure != example().Failure {
		t.Errorf("posted %q: %v", taken, err)
	}
	if err := Post(t.Context(), srv.Client(), srv.URL, example()); !errors.Is(err, ErrNotTaken) {
		t.Errorf("Post to a mirror of files = %v; want ErrNotTaken", err)
	}
}

func FuzzParse(f *testing.F) {
	data, err := example().Marshal()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add([]byte(`{"format":"inetboot-boot-log/1","lines":[{}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := Parse(b)
		if err != nil {
			return
		}
		if data, err := r.Marshal(); err != nil || len(data) > MaxBytes {
			t.Errorf("Marshal of %q = %d bytes, %v", b, len(data), err)
		}
	})
}
