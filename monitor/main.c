#include "monitor/monitor.h"

int main(int argc, char **argv)
{
    return service_main(&monitor_spec, argc, argv);
}
