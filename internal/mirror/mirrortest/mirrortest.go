// Package mirrortest has web servers that misbehave on purpose, for tests of
// everything that reads from mirrors.
package mirrortest

import (
	"bytes"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// Files serves files by their path (without a leading slash), with ranges.
func Files(files map[string][]byte) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		data, ok := files[strings.TrimPrefix(r.URL.Path, "/")]
		if !ok {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Content-Type", "application/octet-stream")
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(data))
	})
}

// Server is a running server.
type Server struct {
	URL string
	n   atomic.Int64
}

// Requests returns how many requests it was sent so far.
func (s *Server) Requests() int { return int(s.n.Load()) }

// Serve runs h until the end of the test, which does not wait for requests
// that hang.
func Serve(t testing.TB, h http.Handler) *Server {
	t.Helper()
	s := &Server{}
	hs := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.n.Add(1)
		h.ServeHTTP(w, r)
	}))
	s.URL = hs.URL
	t.Cleanup(func() {
		hs.CloseClientConnections()
		hs.Close()
	})
	return s
}

// Refusing returns the URL of a port on which nobody listens.
func Refusing(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return "http://" + l.Addr().String()
}

// Fault is a way to misbehave.
type Fault struct {
	Name string
	Wrap func(good http.Handler) http.Handler
	// Slow says that it shows only by the time that it takes.
	Slow bool
	// Harmless says that a client should cope with it by itself.
	Harmless bool
}

// Faults lists all ways to misbehave but Refusing.
func Faults() []Fault {
	list := []Fault{
		{Name: "silent", Wrap: Silent, Slow: true},
		{Name: "hangs up", Wrap: HangUp},
		{Name: "stalls", Wrap: Stall, Slow: true},
		{Name: "trickles", Wrap: Trickle, Slow: true},
		{Name: "breaks off", Wrap: BreakOff},
		{Name: "short, as announced", Wrap: Short},
		{Name: "wrong byte", Wrap: Corrupt},
		{Name: "endless", Wrap: Endless},
		{Name: "another file", Wrap: Another},
		{Name: "web page", Wrap: Portal},
		{Name: "redirects in a circle", Wrap: Circle},
		{Name: "ends every connection", Wrap: NoKeepAlive, Harmless: true},
		{Name: "no ranges", Wrap: NoRanges, Harmless: true},
	}
	for _, code := range []int{400, 403, 404, 410, 429, 500, 502, 503} {
		list = append(list, Fault{Name: strconv.Itoa(code), Wrap: Status(code)})
	}
	return list
}

// Status answers everything with a status.
func Status(code int) func(http.Handler) http.Handler {
	return func(http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", code) })
	}
}

// Silent takes requests and never answers.
func Silent(http.Handler) http.Handler {
	return http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
}

// HangUp ends the connection instead of answering.
func HangUp(http.Handler) http.Handler {
	return http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
}

// answered is what a handler would send.
type answered struct {
	head http.Header
	code int
	body []byte
}

// change serves what tell makes of good's answers.
func change(good http.Handler, tell func(w http.ResponseWriter, r *http.Request, a *answered)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rec := httptest.NewRecorder()
		good.ServeHTTP(rec, r)
		tell(w, r, &answered{rec.Header(), rec.Code, rec.Body.Bytes()})
	})
}

func (a *answered) sendHead(w http.ResponseWriter) {
	for k, v := range a.head {
		w.Header()[k] = v
	}
	w.WriteHeader(a.code)
}

func flush(w http.ResponseWriter) { _ = http.NewResponseController(w).Flush() }

// Stall sends half of each answer and no more.
func Stall(good http.Handler) http.Handler {
	return change(good, func(w http.ResponseWriter, r *http.Request, a *answered) {
		a.sendHead(w)
		_, _ = w.Write(a.body[:len(a.body)/2])
		flush(w)
		<-r.Context().Done()
	})
}

// Trickle sends five bytes each twentieth of a second.
func Trickle(good http.Handler) http.Handler {
	return change(good, func(w http.ResponseWriter, r *http.Request, a *answered) {
		a.sendHead(w)
		for b := a.body; len(b) > 0; {
			n := min(5, len(b))
			if _, err := w.Write(b[:n]); err != nil {
				return
			}
			flush(w)
			b = b[n:]
			select {
			case <-time.After(50 * time.Millisecond):
			case <-r.Context().Done():
				return
			}
		}
	})
}

// BreakOff announces all of each answer and hangs up in the middle.
func BreakOff(good http.Handler) http.Handler {
	return change(good, func(w http.ResponseWriter, _ *http.Request, a *answered) {
		a.sendHead(w)
		_, _ = w.Write(a.body[:len(a.body)/2])
		flush(w)
		panic(http.ErrAbortHandler)
	})
}

// Short cuts the second half off each file and announces what is left.
func Short(good http.Handler) http.Handler {
	return change(good, func(w http.ResponseWriter, _ *http.Request, a *answered) {
		a.body = a.body[:len(a.body)/2]
		a.head.Set("Content-Length", strconv.Itoa(len(a.body)))
		a.sendHead(w)
		_, _ = w.Write(a.body)
	})
}

// Corrupt changes one byte of each answer.
func Corrupt(good http.Handler) http.Handler {
	return change(good, func(w http.ResponseWriter, _ *http.Request, a *answered) {
		if len(a.body) > 0 {
			a.body[len(a.body)*2/3] ^= 1
		}
		a.sendHead(w)
		_, _ = w.Write(a.body)
	})
}

// Endless appends zeros to each answer for as long as anybody reads them.
func Endless(good http.Handler) http.Handler {
	return change(good, func(w http.ResponseWriter, _ *http.Request, a *answered) {
		a.head.Del("Content-Length")
		a.sendHead(w)
		_, err := w.Write(a.body)
		for zeros := make([]byte, 64<<10); err == nil; {
			_, err = w.Write(zeros)
		}
	})
}

// Another answers every request with the bytes of another file of that size.
func Another(good http.Handler) http.Handler {
	return change(good, func(w http.ResponseWriter, _ *http.Request, a *answered) {
		for i := range a.body {
			a.body[i] = byte(i)
		}
		a.sendHead(w)
		_, _ = w.Write(a.body)
	})
}

// Portal answers everything with a web page, like a hotel's network.
func Portal(http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, "<html><body>Please log in.</body></html>")
	})
}

// Circle redirects every request to another path for ever.
func Circle(http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		to := "/a" + r.URL.Path
		if strings.HasPrefix(r.URL.Path, "/a/") {
			to = strings.TrimPrefix(r.URL.Path, "/a")
		}
		http.Redirect(w, r, to, http.StatusFound)
	})
}

// NoKeepAlive ends the connection after each answer without saying so before.
func NoKeepAlive(good http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rec := httptest.NewRecorder()
		good.ServeHTTP(rec, r)
		conn, buf, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer conn.Close()
		fmt.Fprintf(buf, "HTTP/1.1 %d %s\r\n", rec.Code, http.StatusText(rec.Code))
		_ = rec.Header().Write(buf)
		fmt.Fprintf(buf, "\r\n%s", rec.Body.Bytes())
		_ = buf.Flush()
	})
}

// NoRanges answers with the whole file whatever part was asked for.
func NoRanges(good http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Header.Del("Range")
		good.ServeHTTP(w, r)
	})
}

// Late answers after a time.
func Late(d time.Duration) func(http.Handler) http.Handler {
	return func(good http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			select {
			case <-time.After(d):
				good.ServeHTTP(w, r)
			case <-r.Context().Done():
			}
		})
	}
}

// Switch is a handler that can be exchanged while it serves.
type Switch struct{ h atomic.Pointer[http.Handler] }

// Set makes h answer from now on.
func (s *Switch) Set(h http.Handler) { s.h.Store(&h) }

// ServeHTTP implements http.Handler.
func (s *Switch) ServeHTTP(w http.ResponseWriter, r *http.Request) { (*s.h.Load()).ServeHTTP(w, r) }
