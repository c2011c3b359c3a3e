package target_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/inetboot/inetboot/blockfs/read/readtest"
	"github.com/inetboot/inetboot/internal/vmtest"
)

// largeFiles is more than a machine of 256 MB can keep in its page cache, and
// two folders that are read once only.
func largeFiles(put func(name string, data []byte)) {
	seed := uint64(0)
	group := func(dir string, n int) []byte {
		var sums bytes.Buffer
		for i := range n {
			seed++
			b := readtest.Noise(2<<20-int(seed)*1000, seed)
			name := fmt.Sprintf("%s/%d", dir, i)
			put(name, b)
			fmt.Fprintf(&sums, "%x %s\n", sha256.Sum256(b), name)
		}
		return sums.Bytes()
	}
	put("/sums", group("/files", 46))
	for i := range 2 {
		dir := fmt.Sprintf("/fresh/%d", i)
		put(dir+"/sums", group(dir, 2))
	}
}

// Lengths of the outage.
const (
	hangs   = 25 * time.Second
	refuses = 15 * time.Second
)

// suspendable is a store that can be put to sleep: asked for /outage it first
// leaves all requests unanswered, then nobody listens at its port any more, and
// then it is back.
type suspendable struct {
	files http.Handler
	addr  string
	ctx   context.Context
	wg    sync.WaitGroup

	mu    sync.Mutex
	srv   *http.Server
	awake chan struct{} // closed unless it hangs
}

func newSuspendable(t *testing.T, dir string) *suspendable {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	s := &suspendable{files: http.FileServer(http.Dir(dir)), awake: make(chan struct{}), addr: "127.0.0.1:0", ctx: ctx}
	close(s.awake)
	if err := s.listen(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		s.close()
		s.wg.Wait()
	})
	return s
}

// listen begins to answer, always at the same port.
func (s *suspendable) listen() error {
	l, err := net.Listen("tcp", s.addr)
	if err != nil {
		return err
	}
	srv := &http.Server{Handler: s}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.addr, s.srv = l.Addr().String(), srv
	s.wg.Go(func() { _ = srv.Serve(l) })
	return nil
}

func (s *suspendable) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.srv.Close()
}

func (s *suspendable) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	s.mu.Lock()
	awake := s.awake
	if q.URL.Path == "/outage" {
		awake := make(chan struct{})
		s.awake = awake
		s.wg.Go(func() { s.outage(awake) })
		s.mu.Unlock()
		return
	}
	s.mu.Unlock()
	select {
	case <-awake:
		s.files.ServeHTTP(w, q)
	case <-q.Context().Done():
		panic(http.ErrAbortHandler)
	}
}

func (s *suspendable) outage(awake chan struct{}) {
	pause := func(d time.Duration) {
		select {
		case <-time.After(d):
		case <-s.ctx.Done():
		}
	}
	pause(hangs)
	s.close()
	close(awake)
	pause(refuses)
	if s.ctx.Err() == nil {
		if err := s.listen(); err != nil {
			panic(err) // the port was free a moment ago
		}
	}
}

// TestLasting does to a machine of 256 MB without swap what its root has to
// survive; what exactly is in testdata/guest/lasting.go. After each step files
// are read, past the page cache, and compared.
func TestLasting(t *testing.T) {
	r := newRigWith(t, largeFiles)
	s := newSuspendable(t, r.store)
	_, port, err := net.SplitHostPort(s.addr)
	if err != nil {
		t.Fatal(err)
	}
	if r.port, err = strconv.Atoi(port); err != nil {
		t.Fatal(err)
	}
	// Its lease is due when the clock has been set twice. A quiet console shows
	// errors only.
	vm := r.startWith(t, "", 256, leaseDue, fmt.Sprintf("quiet -- lasting http://10.0.2.2:%d", r.port))
	survived := func(step string) {
		t.Helper()
		m := vm.ExpectT(t, 240, `GUEST (?:survived `+step+`, .*|FAILED: .*)`)
		t.Log(strings.TrimSpace(m[0]))
		if !strings.HasPrefix(m[0], "GUEST survived") {
			t.Fatalf("want: survived %s", step)
		}
	}
	vm.ExpectT(t, 240, `GUEST clock is at \d+`)
	if n := r.renewals(t); n != 0 {
		t.Fatalf("the lease was renewed %d times before the clock was set: the machine is too slow for this test", n)
	}
	survived("clock ten years on")
	survived("clock twenty years back")
	survived("where its paths lead")
	survived("signals")
	vm.ExpectT(t, 240, `GUEST memory left: \d+ kB`)
	survived("squeeze")
	survived("out of memory")

	vm.ExpectT(t, 120, `inetboot: the store cannot be reached: reads wait[^\n]*check the cable`)
	back := vm.ExpectT(t, 120, `inetboot: the store is back: reads go on away=(\S+)`)
	if away, err := time.ParseDuration(back[1]); err != nil || away < hangs+refuses-2*time.Second || away > hangs+refuses+30*time.Second {
		t.Errorf("the store was away for %s, %v; want about %v", back[1], err, hangs+refuses)
	}
	vm.ExpectT(t, 120, `GUEST kernel log: 1 begin, 1 end`)
	survived("outage")
	console := vm.Console.Text()
	for _, text := range []string{"the store cannot be reached", "the store is back"} {
		if n := strings.Count(console, text); n != 1 {
			t.Errorf("the console says %d times %q; want 1", n, text)
		}
	}

	// A tick is 10 ms: one in 20 s is 0.05 %. In one of two such times the
	// runtime may collect garbage, which it does each two minutes.
	least, sum := [2]int{1 << 30, 1 << 30}, 0
	for range 2 {
		idle := vm.ExpectT(t, 120, `GUEST idle for \d+ s: (\d+) ticks, (\d+) wake-ups`)
		for i := range least {
			n, err := strconv.Atoi(idle[1+i])
			if err != nil {
				t.Fatal(err)
			}
			least[i] = min(least[i], n)
			sum += n * (1 - i)
		}
	}
	if least[0] > 2 || least[1] > 20 || sum > 20 {
		t.Errorf("%d ticks and %d wake-ups in the better one of two times 20 s, %d ticks in both; want at most 2, 20 and 20", least[0], least[1], sum)
	}
	survived("idle")

	vm.ExpectT(t, leaseDue+60, `GUEST has run long enough`)
	peak := vm.ExpectT(t, 30, `GUEST VmHWM:\s*(\d+) kB`)
	if kb, err := strconv.Atoi(peak[1]); err != nil || kb > 96<<10 {
		t.Errorf("%s; want 96 MiB at most", peak[0])
	}
	vm.ExpectT(t, 120, `GUEST signal 15 to 1 processes`)
	vm.ExpectT(t, 30, `GUEST signal 9 to 1 processes`)
	vm.ExpectT(t, 120, `GUEST survived SIGKILL to all others`)
	vm.ExpectT(t, 120, `GUEST goes down as sysvinit does`)
	end(t, vm)
	if n := r.renewals(t); n != 1 {
		t.Errorf("the lease was renewed %d times; want once, though the clock was set", n)
	}
	for line := range strings.Lines(vm.Console.Text()) {
		if strings.Contains(line, "GUEST") {
			t.Log(strings.TrimSpace(line))
		}
	}
}

// leaseDue is after how many seconds the machine's lease is renewed: later
// than the clock is set, and earlier than the guest ends.
const leaseDue = 120

// renewals counts the requests for the lease so far.
func (r *rig) renewals(t *testing.T) int {
	t.Helper()
	messages, err := vmtest.DHCPMessages(r.capture)
	if err != nil {
		t.Fatal(err)
	}
	discovers, requests := vmtest.DHCPExchanges(messages)
	if discovers != 0 {
		t.Errorf("%d DISCOVER; want none", discovers)
	}
	return requests
}
