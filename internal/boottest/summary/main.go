// Command summary passes on the output of `go test -v` and ends with one line
// that counts the tests without subtests. It fails if a test failed, if the
// output has no result, or if nothing ran.
package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

func main() {
	if err := run(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "boot-test:", err)
		os.Exit(1)
	}
}

func run(in io.Reader, out io.Writer) error {
	passed, failed, ended := 0, 0, false
	results := map[string]string{} // by full name
	sc := bufio.NewScanner(in)
	sc.Buffer(make([]byte, 0, 64<<10), 16<<20)
	for sc.Scan() {
		line := sc.Text()
		fmt.Fprintln(out, line)
		t := strings.TrimSpace(line)
		for _, r := range []string{"PASS", "FAIL", "SKIP"} {
			if rest, ok := strings.CutPrefix(t, "--- "+r+": "); ok {
				name, _, _ := strings.Cut(rest, " ")
				results[name] = r
			}
		}
		ended = ended || strings.HasPrefix(line, "ok  \t") || strings.HasPrefix(line, "FAIL\t")
	}
	if err := sc.Err(); err != nil {
		return err
	}
	for name, r := range results {
		if hasSubtests(results, name) {
			continue
		}
		switch r {
		case "PASS":
			passed++
		default: // a boot test that was skipped has shown nothing
			failed++
		}
	}
	fmt.Fprintf(out, "boot-test: %d passed, %d failed\n", passed, failed)
	switch {
	case failed > 0:
		return fmt.Errorf("%d failed", failed)
	case !ended:
		return errors.New("the tests did not end")
	case passed == 0:
		return errors.New("no test ran")
	}
	return nil
}

func hasSubtests(results map[string]string, name string) bool {
	for other := range results {
		if strings.HasPrefix(other, name+"/") {
			return true
		}
	}
	return false
}
