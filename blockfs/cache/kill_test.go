package cache

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"github.com/inetboot/inetboot/internal/digest"
)

const killDir = "INETBOOT_TEST_KILL_CACHE"

// TestKillHelper is the process that is killed: it writes blocks for ever and
// says which ones were flushed.
func TestKillHelper(t *testing.T) {
	dir := os.Getenv(killDir)
	if dir == "" {
		t.Skip("is started by TestTwoHundredKills")
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	c, err := Open(ctx, dir, killOptions())
	if err != nil {
		fmt.Println("error", err)
		return
	}
	first, err := strconv.Atoi(os.Getenv(killDir + "_FIRST"))
	if err != nil {
		t.Fatal(err)
	}
	noise() // takes time with the race detector
	fmt.Println("begin")
	for i := first; ctx.Err() == nil; i++ {
		b := killBlock(i)
		if c.WaitRoom(ctx, len(b)) != nil || !c.Put(digest.Of(b), b, i%7 == 0) {
			fmt.Println("error", "refused", c.Stats())
			return
		}
		if i%8 == 0 {
			if err := c.Flush(ctx); err != nil {
				fmt.Println("error", err)
				return
			}
			fmt.Println(i)
		}
	}
}

func killOptions() Options { return Options{Quota: 24 * mib, Queue: 512 << 10} }

func killBlock(i int) []byte { return fixedBlock(i, 1000+i*7919%60_000) }

// A process that writes is killed 200 times. What it had flushed is there, but
// for what had to make room, and nothing that Get returns is wrong.
func TestTwoHundredKills(t *testing.T) {
	dir := t.TempDir()
	rnd := rand.New(rand.NewPCG(3, 4))
	next, kept, lost := 0, 0, 0
	for kill := range 200 {
		cmd := exec.Command(os.Args[0], "-test.run=^TestKillHelper$", "-test.timeout=2m")
		cmd.Env = append(os.Environ(), killDir+"="+dir, killDir+"_FIRST="+strconv.Itoa(next))
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		if !lines.Scan() || lines.Text() != "begin" {
			cmd.Process.Kill()
			cmd.Wait()
			t.Fatalf("kill %d: the process says %q", kill, lines.Text())
		}
		time.AfterFunc(time.Duration(rnd.IntN(60_000))*time.Microsecond, func() { cmd.Process.Kill() })
		last := next - 1
		for lines.Scan() {
			if last, err = strconv.Atoi(lines.Text()); err != nil {
				t.Errorf("kill %d: the process says %q", kill, lines.Text())
				break
			}
		}
		cmd.Wait() // was killed
		if kill%10 != 9 && kill > 3 {
			next = last + 1
			continue // torn upon torn
		}

		o := killOptions()
		c := mustOpen(t, dir, o)
		if s := c.Stats(); s.State != StateOK || s.Bytes > o.Quota {
			t.Fatalf("kill %d: %+v", kill, s)
		}
		// In the order in which they were written, so that the oldest stay the
		// ones that make room. All may be there or not, but not wrong; of the
		// newest sixth of the quota hardly any can have made room.
		newest := last + 1
		for bytes := int64(0); newest > 0 && bytes < o.Quota/6; newest-- {
			bytes += recordLen(len(killBlock(newest - 1)))
		}
		for i := range last + 50 {
			b := killBlock(i)
			switch got, ok := c.Get(t.Context(), digest.Of(b), nil); {
			case ok && digest.Of(got) != digest.Of(b):
				t.Fatalf("kill %d: block %d is wrong", kill, i)
			case !ok && i >= newest && i <= last:
				lost++
			case ok:
				kept++
			}
		}
		if s := c.Stats(); kill > 100 && s.Bytes < o.Quota*2/3 {
			t.Errorf("kill %d: the cache has shrunk: %+v", kill, s)
		}
		next = last + 1
		if kill%20 == 19 {
			mustClose(t, c) // from time to time it ends properly
		} else {
			crash(c)
		}
	}
	t.Logf("%d blocks written; %d of those looked for were there, %d not", next, kept, lost)
	if lost > kept/50 {
		t.Errorf("%d blocks that were flushed are not there, %d are", lost, kept)
	}
	if next < 1000 {
		t.Errorf("only %d blocks were written: does the test do anything?", next)
	}
}

// crash ends a cache without any of what Close does, as far as that goes in the same
// process.
func crash(c *Cache) {
	c.mu.Lock()
	c.closing = true
	c.state = StateFailed
	c.mu.Unlock()
	c.writing <- struct{}{}
	c.w.cur, c.w.f = nil, nil
	<-c.writing
	c.poke()
	<-c.done
	c.closeFiles()
}
