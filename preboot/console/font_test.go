package console

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestDoubled(t *testing.T) {
	font := make([]byte, 2*fontRows) // two characters of 3 rows
	copy(font[fontRows:], []byte{0b10000001, 0b00011000, 0b01000010})
	var rows []string
	out := doubled(font, 3)
	for i := 0; i < len(out); i += 2 {
		rows = append(rows, strings.ReplaceAll(fmt.Sprintf("%08b%08b", out[i], out[i+1]), "0", "."))
	}
	want := make([]string, 2*fontRows)
	for i := range want {
		want[i] = "................"
	}
	copy(want[fontRows:], []string{
		"11............11", "11............11",
		"......1111......", "......1111......",
		"..11........11..", "..11........11..",
	})
	if diff := cmp.Diff(want, rows); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
