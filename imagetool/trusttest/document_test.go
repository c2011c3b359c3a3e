// Package trusttest runs the commands of docs/trust.md, as they stand there,
// and looks at what machines and thieves can do afterwards.
package trusttest

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// line is a command of the document and who runs it where.
type line struct {
	who     string // "server" runs with the right to control it
	command string
}

var prompt = regexp.MustCompile(`^([a-z]+)[$#] (.+)$`)

// document returns the blocks of commands below each heading of docs/trust.md.
func document(t *testing.T) map[string][][]line {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("..", "..", "docs", "trust.md"))
	if err != nil {
		t.Fatal(err)
	}
	out := make(map[string][][]line)
	heading, inside := "", false
	var block []line
	for n, text := range strings.Split(string(data), "\n") {
		switch {
		case strings.HasPrefix(text, "## "):
			heading = strings.TrimPrefix(text, "## ")
		case strings.HasPrefix(text, "```") && inside:
			out[heading] = append(out[heading], block)
			block, inside = nil, false
		case text == "```console":
			inside = true
		case strings.HasPrefix(text, "```"):
			t.Fatalf("docs/trust.md:%d: a block of another kind than console: nobody runs it", n+1)
		case inside:
			m := prompt.FindStringSubmatch(text)
			if m == nil {
				t.Fatalf("docs/trust.md:%d: %q is no command with a prompt", n+1, text)
			}
			block = append(block, line{m[1], m[2]})
		}
	}
	return out
}
