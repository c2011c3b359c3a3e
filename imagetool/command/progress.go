package command

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"

	"github.com/inetboot/inetboot/imagetool/push"
)

// plainInterval is how often a line is written where there is no terminal.
const plainInterval = 5 * time.Second

func isTerminal(f *os.File) bool { return term.IsTerminal(int(f.Fd())) }

// reporter shows progress: a bar on a terminal, lines elsewhere.
type reporter struct {
	w   io.Writer
	tty bool

	mu    sync.Mutex
	bar   *progressbar.ProgressBar
	what  string
	done  int64
	total int64
	start time.Time
	last  time.Time
}

var _ push.Reporter = (*reporter)(nil)

func newReporter(w io.Writer) *reporter { return &reporter{w: w, tty: terminal(w)} }

// Begin implements push.Reporter.
func (r *reporter) Begin(what string, total int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.end()
	r.what, r.total, r.done = what, total, 0
	r.start = time.Now()
	r.last = r.start
	if !r.tty {
		if total < 0 {
			fmt.Fprintf(r.w, "%s\n", what)
		} else {
			fmt.Fprintf(r.w, "%s: %s\n", what, bytesText(total))
		}
		return
	}
	r.bar = progressbar.NewOptions64(total,
		progressbar.OptionSetWriter(r.w), progressbar.OptionSetDescription(what), progressbar.OptionShowBytes(true),
		progressbar.OptionShowCount(), progressbar.OptionSetPredictTime(true), progressbar.OptionThrottle(100*time.Millisecond),
		progressbar.OptionFullWidth(), progressbar.OptionSetRenderBlankState(true))
}

// Add implements push.Reporter.
func (r *reporter) Add(n int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.done += n
	if r.bar != nil {
		if r.total >= 0 && r.done > r.total { // the total was an estimate
			r.total = r.done
			r.bar.ChangeMax64(r.total)
		}
		_ = r.bar.Add64(n) // a bar that cannot be drawn is no reason to stop
		return
	}
	now := time.Now()
	if r.tty || r.what == "" || now.Sub(r.last) < plainInterval {
		return
	}
	r.last = now
	rate := float64(r.done) / now.Sub(r.start).Seconds()
	if r.total < 0 {
		fmt.Fprintf(r.w, "%s: %s, %s/s\n", r.what, bytesText(r.done), bytesText(int64(rate)))
		return
	}
	// A total may have been an estimate.
	r.total = max(r.total, r.done)
	left := "unknown"
	if rate > 0 {
		left = time.Duration(float64(r.total-r.done) / rate * float64(time.Second)).Round(time.Second).String()
	}
	fmt.Fprintf(r.w, "%s: %s of %s, %s/s, %s left\n", r.what, bytesText(r.done), bytesText(r.total), bytesText(int64(rate)), left)
}

// End implements push.Reporter.
func (r *reporter) End() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.end()
}

func (r *reporter) end() {
	if r.bar != nil {
		_ = r.bar.Exit()
		fmt.Fprintln(r.w)
	}
	r.bar, r.what = nil, ""
}

// Note implements push.Reporter.
func (r *reporter) Note(text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.bar != nil {
		_ = r.bar.Clear()
	}
	fmt.Fprintln(r.w, "note:", text)
}

// bytesText writes a number of bytes for people, in powers of ten.
func bytesText(n int64) string {
	const unit = 1000
	if n < unit {
		return fmt.Sprintf("%d B", n)
	}
	v, i := float64(n)/unit, 0
	for v >= unit && i < 4 {
		v /= unit
		i++
	}
	return fmt.Sprintf("%.1f %cB", v, "kMGTP"[i])
}
