package pack

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// ReportPath is where a server takes reports, below its base URL.
const ReportPath = "api/v1/boots"

// ErrNotTaken is wrapped when a mirror answers, but does not take the report:
// static mirrors never do.
var ErrNotTaken = errors.New("the mirror does not take boot reports")

// Post sends a report to the mirror with the given base URL, once. Who has
// several mirrors asks the next one after any error.
func Post(ctx context.Context, c *http.Client, base string, r *Report) error {
	data, err := r.Marshal()
	if err != nil {
		return err
	}
	url := strings.TrimRight(base, "/") + "/" + ReportPath
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(data))
	if err != nil {
		return fmt.Errorf("send the boot report: %w", err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := c.Do(req)
	if err != nil {
		return fmt.Errorf("send the boot report: %w", err)
	}
	defer resp.Body.Close()
	message, err := io.ReadAll(io.LimitReader(resp.Body, 200))
	if resp.StatusCode/100 == 2 {
		return nil
	}
	return fmt.Errorf("send the boot report to %s: %w: %s %.200q", base, errors.Join(ErrNotTaken, err), resp.Status, message)
}
