package pack

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/inetboot/inetboot/blockfs/index"
	"github.com/inetboot/inetboot/internal/digest"
)

// newRoot has two files: meta with blocks a to d, data with e to h, where
// block 4 of data is a again and block 5 is zero bytes.
func newRoot(t testing.TB) []*index.Index {
	t.Helper()
	build := func(names string) *index.Index {
		var b index.Builder
		for _, c := range names {
			if c == '0' {
				b.AddZero(1000)
			} else {
				b.Add(200, 100, digest.Of([]byte(string(c))))
			}
		}
		data, err := b.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		x, err := index.Parse(data)
		if err != nil {
			t.Fatal(err)
		}
		return x
	}
	return []*index.Index{build("abcd"), build("efgha0")}
}

// boot is a report of a boot that reads the given blocks in this order.
// A capital A is the second place of a, 0 the zero block.
func boot(names string) *Report {
	r := report()
	for i, c := range names {
		a := Access{MS: i}
		switch {
		case c == 'A':
			a.File, a.Block = 1, 4
		case c == '0':
			a.File, a.Block = 1, 5
		case c < 'e':
			a.Block = int(c - 'a')
		default:
			a.File, a.Block = 1, int(c-'e')
		}
		r.Trace = append(r.Trace, a)
	}
	return r
}

func names(m Merged) string {
	s := ""
	for _, e := range m.Blocks {
		for c := 'a'; c <= 'h'; c++ {
			if e.SHA256 == digest.Of([]byte(string(c))) {
				s += string(c)
			}
		}
	}
	return s
}

func TestMerge(t *testing.T) {
	foreign := boot("abc")
	foreign.Trace[1].Block = 4
	odd := boot("abc")
	odd.Files = []string{"data"}
	for _, tt := range []struct {
		name    string
		reports []*Report
		limit   int64
		want    string
		used    int
		refused int
		over    int
	}{
		{"none", nil, 1000, "", 0, 0, 0},
		{"one", []*Report{boot("cabe")}, 1000, "cabe", 1, 0, 0},
		{"zero blocks and second places", []*Report{boot("0cAabe0")}, 1000, "cabe", 1, 0, 0},
		{"half is enough", []*Report{boot("abc"), boot("abd")}, 1000, "abcd", 2, 0, 0},
		{"less than half is not", []*Report{boot("abc"), boot("abd"), boot("abc")}, 1000, "abc", 3, 0, 0},
		{"median of the ranks", []*Report{boot("abcd"), boot("abcd"), boot("dcba")}, 1000, "abcd", 3, 0, 0},
		{"an empty report counts", []*Report{boot(""), boot("ab"), boot("")}, 1000, "", 3, 0, 0},
		{"only the last eight", append(slices.Repeat([]*Report{boot("h")}, 20), slices.Repeat([]*Report{boot("ab")}, 8)...), 1000, "ab", 8, 0, 0},
		{"impossible reports", []*Report{foreign, boot("ab"), odd}, 1000, "ab", 1, 2, 0},
		{"limit", []*Report{boot("abcdef")}, 350, "abc", 1, 0, 3},
		{"default limit", []*Report{boot("hgfedcba")}, 0, "hgfe", 1, 0, 4},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := Merge(newRoot(t), tt.reports, tt.limit)
			if got := names(m); got != tt.want || m.Reports != tt.used || m.Refused != tt.refused || m.Over != tt.over || m.Stored != int64(100*len(tt.want)) {
				t.Errorf("Merge = %s, %+v; want %s of %d reports, %d refused, %d over", got, m, tt.want, tt.used, tt.refused, tt.over)
			}
		})
	}
}

// One client cannot take a block out of the pack or bring another one in that
// most others do not read.
func TestMergeBoundsOneReport(t *testing.T) {
	for n := 3; n <= MergeLast; n++ {
		good := slices.Repeat([]*Report{boot("abcd")}, n-1)
		for _, bad := range []string{"", "efgh", "dcba", "h"} {
			if got := names(Merge(newRoot(t), append(slices.Clone(good), boot(bad)), 1000)); got != "abcd" {
				t.Errorf("%d good reports and one of %q give the pack %q; want abcd", n-1, bad, got)
			}
		}
	}
}

func TestMergeIgnoresTheOrderOfReports(t *testing.T) {
	reports := []*Report{boot("abcdefgh"), boot("hgAfe"), boot("aecg"), boot("bdfh0"), boot("Abcd")}
	want := Merge(newRoot(t), reports, 600)
	rng := rand.New(rand.NewPCG(1, 2))
	for range 50 {
		rng.Shuffle(len(reports), func(i, j int) { reports[i], reports[j] = reports[j], reports[i] })
		if diff := cmp.Diff(want, Merge(newRoot(t), reports, 600)); diff != "" {
			t.Fatalf("Merge in another order (-want +got):\n%s", diff)
		}
	}
}
